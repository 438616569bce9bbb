"""The verdict against systems whose health is known, and its way through the command line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.cli import main


def descent(step_size):
    return sx.GradientDescent(sx.Quadratic(jnp.array([1.0, 4.0])), step_size)


def test_descent_below_and_past_its_edge():
    below = sx.diagnose(descent(0.45), jnp.zeros(2), questions=["linear_stability"])
    past = sx.diagnose(descent(0.55), jnp.zeros(2), questions=["linear_stability"])
    assert below.verdict == "sound" and below.findings[0].evidence == pytest.approx(0.8, abs=1e-12)
    assert past.broken[0].evidence == pytest.approx(1.2, abs=1e-12)
    assert "1 direction(s) grow" in past.broken[0].cause


def test_a_run_that_breaks_is_found_with_the_step_it_broke_at():
    found = sx.diagnose(sx.as_map(lambda x: x**2), jnp.array(3.0), questions=["survival"])
    # 3^(2^n) overflows float64 where 2^n log10(3) > 308.25: at n = 10; the last finite state is number 9.
    assert found.broken[0].evidence == 9 and found.broken[0].threshold == 200
    assert "stability edge" in found.broken[0].cause


def test_blow_up_of_a_flow_is_found_at_its_time():
    answer = sx.diagnostics.survival(sx.as_flow(lambda x: x**2), jnp.array(2.0))
    assert float(answer.reached) == pytest.approx(0.5, abs=1e-4)


def test_transient_growth_is_told():
    # Multipliers 1/2, but |J^n| reaches 50 n 2^{1-n}... at n = 1, 2.
    found = sx.diagnose(
        sx.as_map(lambda x: jnp.array([[0.5, 50.0], [0.0, 0.5]]) @ x), jnp.zeros(2), questions=["linear_stability"]
    )
    assert [finding.name for finding in found.broken] == ["transient growth of perturbations"]
    assert found.broken[0].evidence == pytest.approx(np.linalg.norm([[0.5, 50.0], [0.0, 0.5]], 2), rel=1e-9)


def test_a_family_adds_its_findings():
    class Own(sx.Map):
        def step(self, n, state, *, key=None):
            return state

    @sx.diagnostics.examine.register
    def _(system: Own, state, *, at=0, key=None):
        return [sx.Finding("own", 3.0, "<", 2.0, "too large", "Halve it.")]

    found = sx.diagnose(Own(), jnp.ones(1), questions=[])
    assert [str(finding) for finding in found.broken] == ["own: 3, must be < 2. Too large. Halve it."]


@pytest.mark.parametrize(
    ("relation", "evidence", "holds"),
    [("<", 1.0, False), ("<=", 1.0, True), (">", 1.0, False), (">=", 1.0, True), (">=", np.nan, False)],
)
def test_relations(relation, evidence, holds):
    assert sx.Finding("x", evidence, relation, 1.0).holds is holds


def test_misuse_is_told():
    with pytest.raises(ValueError, match=r"'stability', expected one of: survival, linear_stability"):
        sx.diagnose(descent(0.1), jnp.zeros(2), questions=["stability"])
    with pytest.raises(TypeError, match="as_map, as_flow or as_sde"):
        sx.diagnose(lambda x: x, jnp.zeros(2))


def test_command_line_asks_the_same(capsys, tmp_path):
    assert (
        main(["diagnose", "henon", "--question", "linear_stability", "--json", "--html", str(tmp_path / "d.html")]) == 0
    )
    data = json.loads(capsys.readouterr().out)
    entry = sx.catalogue.entry("henon")
    direct = sx.diagnose(entry.build(), entry.start(), questions=["linear_stability"])
    assert (
        data["answers"]["linear_stability"]["spectrum"] == direct.to_dict()["answers"]["linear_stability"]["spectrum"]
    )
    page = (tmp_path / "d.html").read_text()
    assert "<svg" in page and "Diagnosis of henon" in page
    # Nothing is fetched: what looks like an address is the name of an SVG vocabulary.
    assert not any(mark in page for mark in ("<script", "<link", "src="))


def test_command_line_takes_a_system_of_ones_own(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_system.py").write_text(
        "import jax.numpy as jnp, separatrix as sx\n"
        "def build():\n    return sx.GradientDescent(sx.Quadratic(1.0), 2.5), jnp.zeros(1)\n"
        "nothing = 3\n"
    )
    assert main(["diagnose", "own_system:build", "--question", "linear_stability"]) == 0
    assert "BROKEN" in capsys.readouterr().out
    assert main(["diagnose", "own_system:nothing"]) == 2
    assert "a pair (system, state)" in capsys.readouterr().err
    assert main(["diagnose", "no_such_module:x"]) == 2
    assert main(["diagnose", "lorentz"]) == 2
    assert main(["diagnose", "henon", "--question", "stability"]) == 2
    assert "linear_stability" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ornstein-uhlenbeck", "lotka-volterra", "adam", "gru", "training"])
def test_any_kind_can_be_asked(name):
    entry = sx.catalogue.entry(name)
    key = jax.random.key(0) if entry.random else None
    found = sx.diagnose(entry.build(), entry.start(), questions=["survival", "linear_stability"], key=key)
    assert found.answers["survival"].outcome == "completed"
    assert found.answers["linear_stability"].kind == entry.kind
