"""What the records of a run say, on records whose truth is known."""

from pathlib import Path

import numpy as np
import pytest

from separatrix.training.recipes import findings_of
from separatrix.training.run import Run


def run_of(folder: Path, rows: list[dict[str, float]], events: tuple[dict, ...] = ()) -> Run:
    with Run.create(folder / "run") as run:
        for number, row in enumerate(rows):
            run.log(10 * number, row)
        for event in events:
            run.event(event["event"], **{name: value for name, value in event.items() if name != "event"})
    return Run.open(folder / "run")


LOSSES = [1.0, 0.8, 0.6, 0.5, 0.45, 0.4, 2.0, 0.35, 0.3]


def test_a_spike_past_the_edge_is_the_learning_rates(tmp_path: Path) -> None:
    ratios = [0.2, 0.4, 0.8, 0.9, 1.2, 1.6, 1.1, 0.7, 0.8]
    rows = [{"loss": loss, "sharpness_over_edge": ratio} for loss, ratio in zip(LOSSES, ratios, strict=True)]
    fell, spike = findings_of(run_of(tmp_path, rows))
    assert fell.holds and fell.evidence == 0.3
    assert not spike.holds and spike.evidence == 5.0 and "(step 60)" in spike.name
    assert "1.6 times the optimiser's edge" in spike.cause and "below 0.62 of itself" in spike.remedy


@pytest.mark.parametrize(("ratio", "said"), [(0.5, "a batch stands out"), (None, "was not watched")])
def test_a_spike_below_the_edge_is_not(ratio: float | None, said: str, tmp_path: Path) -> None:
    extra = {} if ratio is None else {"sharpness_over_edge": ratio}
    spike = findings_of(run_of(tmp_path, [{"loss": loss} | extra for loss in LOSSES]))[1]
    assert not spike.holds and said in spike.cause and "learning rate to below" not in spike.remedy


def test_a_loss_that_is_next_to_nothing_does_not_spike(tmp_path: Path) -> None:
    found = findings_of(run_of(tmp_path, [{"loss": loss} for loss in (1.0, 1e-6, 1e-3, 1e-6)]))
    assert all(finding.holds for finding in found)


def test_validation_that_rises_again_is_told_with_its_step(tmp_path: Path) -> None:
    rows = [{"loss": 1 / (n + 1), "validation": 1 + (n - 3) ** 2 / 10} for n in range(8)]
    over = findings_of(run_of(tmp_path, rows))[-1]
    assert over.evidence == pytest.approx(2.6) and not over.holds and "--steps 30" in over.remedy


def test_a_run_that_diverged_or_learned_nothing_is_broken(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    found = findings_of(run_of(tmp_path / "a", [{"loss": loss} for loss in (1.0, 2.0, np.nan)]))
    assert found[0].status == "BROKEN" and found[0].evidence == pytest.approx(2 / 3)
    (tmp_path / "b").mkdir()
    found = findings_of(run_of(tmp_path / "b", [{"loss": loss} for loss in (1.0, 1.0, 1.1)]))
    assert found[0].status == "BROKEN" and found[0].cause == "nothing was learned"


def test_what_a_monitor_noticed_is_a_finding_again(tmp_path: Path) -> None:
    event = {"event": "noticed", "step": 20, "kind": "oscillation", "name": "sharpness over the edge", "evidence": 1.4,
             "relation": "<", "threshold": 1.0, "cause": "past the edge", "remedy": "Lower it."}  # fmt: skip
    (found,) = findings_of(run_of(tmp_path, [], (event,)))
    assert (found.evidence, found.threshold, found.status) == (1.4, 1.0, "caution")
    assert found.name == "step 20: oscillation: sharpness over the edge" and found.remedy == "Lower it."
