"""Trees of command lines against what a real QEMU 11.1.3 printed for them."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from vfio_migration.emulator.board.board import Board
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.profile.profile import Profile

DATA = Path(__file__).parents[3] / "data" / "qemu-11.1.3"
FIRMWARE = re.compile(r"bar \d+: |MCFG = ")  # what the firmware had written by the time of the capture


def board_of(command_line: str) -> Board:
    arguments = shlex.split(command_line.replace("\\\n", " "))
    board = Board(Profile.bundled(), "q35", memory=64 << 20, defaults="-nodefaults" not in arguments)
    for option, value in pairwise(arguments):
        if option == "-device":
            driver, *rest = value.split(",")
            board.add({"driver": driver, **dict(each.split("=", 1) for each in rest)})
    return board


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not FIRMWARE.match(line.strip())]


@pytest.mark.parametrize("name", ["flat", "host"])
def test_the_tree_is_the_captured_one(name: str) -> None:
    board = board_of((DATA / f"{name}.cmdline.txt").read_text())
    assert lines(board.qtree_text()) == lines((DATA / f"{name}.qtree.txt").read_text())


def test_errors_are_those_of_device_add() -> None:
    board = board_of("-nodefaults -device pcie-root-port,id=rp0,chassis=1 -device edu,id=vf0,bus=rp0")
    before = board.qtree_text()
    for options, words in (
        ({"driver": "nix"}, "'nix' is not a valid device model name"),
        ({"driver": "edu", "id": "vf0", "bus": "rp0"}, "Duplicate device ID 'vf0'"),
        ({"driver": "edu", "bus": "nowhere"}, "Bus 'nowhere' not found"),
        ({"driver": "edu", "colour": "red", "bus": "rp0"}, "Property 'edu.colour' not found"),
        ({"driver": "edu", "bus": "pcie.0"}, "Bus 'pcie.0' does not support hotplugging"),
        (
            {"driver": "edu", "bus": "rp0"},
            "PCI: slot 0 function 0 already occupied by edu, new func edu cannot be exposed to guest.",
        ),
    ):
        with pytest.raises(QmpError) as raised:
            board.add(options, hotplugged=True)
        assert str(raised.value) == words
    assert board.qtree_text() == before
