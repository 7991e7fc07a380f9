"""Every example of the documents that is a test file passes."""

import os
import re
import shutil
import sysconfig

import pytest
from suite import ROOT

from vfio_migration.testing import MachineRig, assert_order

DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
EXAMPLES = {
    f"{path.name}: {title}, {number}": code
    for path in DOCUMENTS
    for title, text in re.findall(
        r"^## (.*?)\n(.*?)(?=^## |\Z)", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL), 1)
    if "def test_" in code  # the others are run by test_readme.py
}


def test_every_section_of_the_guide_has_an_example() -> None:
    sections = re.split(r"^## ", GUIDE, flags=re.MULTILINE)[1:]
    assert [text.splitlines()[0] for text in sections if "```python\n" not in text] == []


def _how(name: str) -> object:
    """Have an example wait for the slow tests that starts processes more than once."""
    slow = EXAMPLES[name].count("two_qemus(") > 1
    return pytest.param(name, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("name", [_how(name) for name in EXAMPLES])
def test_an_example_passes(name: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    for each in ("socket_device.py", "two_qemus.py"):
        shutil.copy(ROOT / "docs" / "examples" / each, pytester.path)
    pytester.syspathinsert()
    pytester.makepyfile(test_example=EXAMPLES[name])
    outcomes = pytester.runpytest_inprocess("-p", "no:cacheprovider").parseoutcomes()
    assert outcomes.keys() - {"warning", "warnings"} == {"passed"}
    assert outcomes["passed"] >= EXAMPLES[name].count("def test_")


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
