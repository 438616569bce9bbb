"""What each test costs, and which are too dear for the default run.

`tests/durations.json` holds the CPU seconds of the tests that take more than `FLOOR`. Above `LIMIT` a test gets the mark
`slow`, unless it is one of those that stay (`STAYS`). A test without a record runs. CPU seconds and not wall time: the
neighbours of a machine must not decide what is tested. The first test that asks for a program pays for its compilation.

    pytest -n 2 --record-durations                   everything, slow tests too
    pytest -n 2 --record-durations -m "not slow"     the default run; records of the others are kept
"""

import json
import os
import re
from pathlib import Path

import pytest

RECORD = Path(__file__).resolve().parents[1] / "durations.json"
FLOOR = 1.0
LIMIT = 1.5
# Laws, known numbers, the contract of every system and of the front door, and what is refused.
STAYS = re.compile(r"^tests/(laws|truths|conformance)/|^tests/evolution/test_contract\.py|refus|misuse")


def recorded() -> dict[str, float]:
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def too_dear(identifier: str, record: dict[str, float]) -> bool:
    return record.get(identifier, 0.0) > LIMIT and not STAYS.search(identifier)


def updated(old: dict[str, float], collected: set[str], measured: dict[str, float]) -> dict[str, float]:
    """The record after a run: what ran is replaced; what its files no longer hold goes; the rest stays."""
    files = {identifier.partition("::")[0] for identifier in collected}
    kept = {name: cost for name, cost in old.items() if name in collected or name.partition("::")[0] not in files}
    new = kept | {name: round(cost, 1) for name, cost in measured.items()}
    return {name: cost for name, cost in sorted(new.items()) if cost > FLOOR}


def cpu_seconds() -> float:
    """Of this process and of those it has started and waited for."""
    return sum(os.times()[:4])


class Recorder:
    """Measures tests where they run, and writes the record where the session ends."""

    def __init__(self):
        self.collected: set[str] = set()
        self.measured: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        start = cpu_seconds()
        result = yield
        self.measured[item.nodeid] = cpu_seconds() - start
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items):
        self.collected |= {item.nodeid for item in items}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        told = getattr(node, "workeroutput", {}).get("durations", ((), {}))
        self.collected |= set(told[0])
        self.measured |= told[1]

    def pytest_sessionfinish(self, session):
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["durations"] = (sorted(self.collected), self.measured)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self, config):
        if not hasattr(config, "workerinput") and self.measured:
            record = updated(recorded(), self.collected, self.measured)
            RECORD.write_text(json.dumps(record, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
