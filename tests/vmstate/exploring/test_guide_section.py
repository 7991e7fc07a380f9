"""The guide's section on every schedule: its test fails as it shows, its command replays that, and its fix mends it."""

import re
import shlex

import pytest
from suite import ROOT

GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
SECTION = GUIDE.partition("## Every schedule")[2].partition("\n## ")[0]
FAILING, SHOWN, MENDED = (
    re.findall(rf"^```{kind}\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)[0] for kind in ("py", "text", "python")
)


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)


@pytest.mark.slow
def test_the_race_of_the_guide_is_found_replayed_and_mended(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_flush=FAILING)
    result = run(pytester)
    result.assert_outcomes(failed=1)
    printed = [line.strip() for line in result.outlines]
    shown = [line.strip() for line in SHOWN.splitlines()]
    assert any(printed[begin : begin + len(shown)] == shown for begin in range(len(printed)))
    command = shlex.split(SHOWN.splitlines()[-1].partition("or: ")[2])
    assert command[0] == "pytest"
    for _ in range(2):
        again = run(pytester, *command[1:])
        again.assert_outcomes(failed=1)
        again.stdout.no_fnmatch_line("*ReplayError*")
    pytester.makepyfile(test_flush=MENDED)
    run(pytester).assert_outcomes(passed=1)
