"""What README says runs: its example, and the claim that the modified flow is closer by an order."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_example_of_readme_runs_and_shows_its_claim(capsys):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    exec(compile(code.group(1), "README.md", "exec"), {})
    outcome, gap, smaller = capsys.readouterr().out.split()
    assert outcome == "completed"
    # The gaps are O(h) and O(h^2): on this start, at h = 2e-4, more than a factor ten apart.
    assert 0 < 10 * float(smaller) < float(gap)


def test_readme_links_to_files_that_exist():
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target
