"""Every example of the guide is a test file that passes."""

import re
import shutil

import pytest
from suite import ROOT

from vfio_migration.testing import MachineRig, assert_order

GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
SECTIONS = {
    title: code
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
}


def test_every_section_has_an_example() -> None:
    assert len(SECTIONS) == GUIDE.count("\n## ") == GUIDE.count("```python\n")


@pytest.mark.parametrize("title", SECTIONS)
def test_an_example_passes(title: str, pytester: pytest.Pytester) -> None:
    shutil.copy(ROOT / "docs" / "examples" / "socket_device.py", pytester.path)
    tests = SECTIONS[title].count("def test_")
    pytester.syspathinsert()
    pytester.makepyfile(SECTIONS[title])
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=tests)


def test_the_failure_is_explained_as_the_guide_shows() -> None:
    with MachineRig() as rig:
        rig.add_handler("controller", depth=1)
        rig.add_handler("disk", depth=2)
        rig.machine.stop()
        with pytest.raises(AssertionError) as caught:
            assert_order(rig.recorder, "controller", "disk")
    shown = [line.rstrip() for line in f"AssertionError: {caught.value}".splitlines()]
    (text,) = re.findall(r"^```text\n(AssertionError.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    assert text.splitlines() == shown


def test_every_link_leads_somewhere() -> None:
    assert [link for link in re.findall(r"\]\(([^)#:]+)\)", GUIDE) if not (ROOT / "docs" / link).exists()] == []
