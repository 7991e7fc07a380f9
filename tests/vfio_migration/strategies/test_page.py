"""The figures of docs/strategies.md are those that are predicted."""

import re

import pytest
from suite import ROOT

from vfio_migration.scenarios.file import bundled_scenarios, load_scenario
from vfio_migration.strategies import STRATEGIES

PAGE = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")


def table(first: str) -> list[list[str]]:
    """Give the cells of the table whose first column has this heading, with that line and without the rule below it."""
    (text,) = re.findall(rf"^\| {first} \|.*?(?=\n\n)", PAGE, re.MULTILINE | re.DOTALL)
    lines = text.splitlines()
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def test_every_figure_is_what_is_predicted() -> None:
    heading, *rows = table("scenario")
    assert [row[0] for row in rows] == list(bundled_scenarios())
    assert heading[-1] == "ideal"
    for name, *figures in rows:
        for strategy, figure in zip(heading[1:-1], figures, strict=False):
            plan = load_scenario(name).with_strategy(strategy).plan()
            assert figure == f"{plan.bounds.mechanism_s * 1000:,.1f}", (name, strategy)
        assert figures[-1] == f"{plan.bounds.ideal_s * 1000:,.1f}", name


@pytest.mark.parametrize("number", [0, 1])
def test_every_strategy_is_described_and_what_it_gives_up(number: int) -> None:
    (first, second) = re.findall(r"^\| strategy \|.*?(?=\n\n)", PAGE, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^\| `(\S+)`", (first, second)[number], re.MULTILINE) == list(STRATEGIES)
