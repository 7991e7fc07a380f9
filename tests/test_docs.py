"""The documents hold together: links lead somewhere, and every rule that a test cites is written down."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest
from suite import ROOT

DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
LABEL = re.compile(r"\b[EDMSVHGXBP]\d{1,2}\b")
RULE = re.compile(r"^- \*\*([EDMSVHGXBPKF]\d{1,2})\*\* ", re.MULTILINE)


def prose(text: str) -> str:
    """Leave out code, in which brackets and hashes mean something else."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def links(text: str) -> list[str]:
    """Give the targets of links and pictures that stay in the project."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(text)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """Give what a heading is called in an address: lower case, no punctuation, dashes for spaces; a number if again."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        number, anchor = 0, name
        while anchor in found:
            number += 1
            anchor = f"{name}-{number}"
        found.add(anchor)
    return found


def cited(source: str) -> set[str]:
    """Give the labels in the docstrings and comments of a module."""
    tree = ast.parse(source)
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    texts += [token.string for token in tokens if token.type == tokenize.COMMENT]
    return set(LABEL.findall("\n".join(texts)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    broken = []
    for link in links(document.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"`((?:vfio_migration|vmstate|tests|benchmarks|docs|\.ci)/[\w./-]*)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_anchors_are_made_as_they_are_shown() -> None:
    text = "# The `first`, of two: [[both]]\n```sh\n# no heading\n```\n## Same\n### Same\n"
    assert anchors(text) == {"the-first-of-two-both", "same", "same-1"}


def test_labels_are_found_in_docstrings_and_comments_only() -> None:
    source = '"""E1, not E123."""\nname = "H1"  # G10\n'
    assert cited(source) == {"E1", "G10"}


def test_every_rule_has_one_place() -> None:
    rules = RULE.findall((ROOT / "docs" / "design.md").read_text(encoding="utf-8"))
    last = {"E": 7, "D": 3, "M": 7, "S": 9, "V": 2, "H": 11, "G": 10, "B": 9, "P": 6, "K": 3, "F": 4, "X": 5}
    numbered = [f"{letter}{number}" for letter, most in last.items() for number in range(letter != "B", most + 1)]
    assert rules == numbered


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_rule_that_a_test_cites_is_written_down(path: Path) -> None:
    rules = set(RULE.findall((ROOT / "docs" / "design.md").read_text(encoding="utf-8")))
    assert cited(path.read_text(encoding="utf-8")) - rules == set()


def test_every_difference_from_qemu_has_a_test_that_exists() -> None:
    page = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    entries = page.split("\n\n**")[1:]
    assert len(entries) > 10
    for entry in entries:
        named = re.findall(r"`(test_\w+|tests/[\w/]+\.py)`", entry)
        assert named, entry[:60]
        assert all((ROOT / each).is_file() if "/" in each else f"def {each}(" in tests for each in named), named


# What a newcomer looks for, and the heading (or the page) under which it stands.
TASKS = {
    "order two handlers": ("guide.md", "the-order-of-two-handlers"),
    "fail a device": ("guide.md", "a-device-that-fails-once"),
    "forecast from logs": ("forecast.md", "from-forty-logs-to-the-hosts-that-would-miss-a-limit"),
    "drive the emulator": ("emulator.md", "two-of-them"),
    "measure a device": ("measure.md", "measure-your-devices"),
    "replay a schedule": ("guide.md", "every-schedule-a-race-found-replayed-and-mended"),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_newcomer_gets_from_the_readme_to_the_task_in_three_clicks(task: str) -> None:
    page, heading = TASKS[task]
    assert heading in anchors((ROOT / "docs" / page).read_text(encoding="utf-8"))
    reached, before = {ROOT / "README.md"}, set[Path]()
    for _ in range(3):
        clicked = {
            (document.parent / target.partition("#")[0]).resolve()
            for document in reached - before
            for target in links(document.read_text(encoding="utf-8"))
            if target.partition("#")[0].endswith(".md")
        }
        before, reached = reached, reached | clicked
    assert ROOT / "docs" / page in reached


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_nothing_is_left_to_be_filled_in(document: Path) -> None:
    assert not re.search(r"@@|TODO|FIXME|XXX", prose(document.read_text(encoding="utf-8")))
