"""Ctrl-C at lines of a migration, of a stop and a start, and of two ends: `benchmarks/ctrl_c.py` presses and looks."""

import os
import subprocess
import sys

import pytest
from suite import ROOT


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        pytest.param(["--every", "600", "--act", "migrate()"], 4, id="a few"),
        pytest.param(["--every", "80"], 12, marks=pytest.mark.slow, id="one line of eighty"),
    ],
)
@pytest.mark.timeout(280)
def test_nothing_is_left_held_open_or_unusable(options: list[str], kinds: int) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "ctrl_c.py"), *options]
    # It traces lines itself, which who measures coverage in it would do too.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=270, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # Of each kind: pressed at some lines, nothing wrong.
    rows = [line.split("│")[1:-1] for line in done.stdout.splitlines() if line.count("│") == 7]
    pressed = [(int(row[3].replace(",", "")), row[5].strip()) for row in rows if row[3].strip()]
    assert len(pressed) == kinds
    assert all(lines > 0 and wrong == "0" for lines, wrong in pressed)
