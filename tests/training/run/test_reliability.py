"""A hundredth of `make reliability`: processes killed, files changed, a disk that refuses, races."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
CODE = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[1])
import reliability
folder = pathlib.Path(sys.argv[2])
rows = [row for beside in (False, True) for row in reliability.killed(folder, 5, beside)]
rows += [*reliability.mutated(folder, 100), *reliability.refused(folder, reliability.ERRORS[:1])]
print(json.dumps(rows + reliability.raced(folder, 4)))
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    command = [sys.executable, "-c", CODE, str(BENCHMARKS), str(tmp_path_factory.mktemp("faults"))]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert told.returncode == 0, told.stderr
    return {row[0]: row[1:] for row in json.loads(told.stdout)}


@pytest.mark.parametrize(
    ("fault", "least"),
    [
        ("killed, waiting for each save", 5),
        ("killed, saving beside the work", 5),
        ("mutated by accident", 100),
        ("mutated on purpose", 70),
        ("disk refuses a call", 30),
        ("disk full", 0),
        ("folder read-only", 1),
        ("two take a new run", 2),
        ("two take a run of a dead process", 2),
    ],
)
def test_nothing_goes_wrong(fault, least, rows):
    tried, wrong, notes = rows[fault]
    assert tried >= least and wrong == 0, notes
