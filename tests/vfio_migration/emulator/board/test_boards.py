"""Boards of many command lines against those of a real QEMU 11.1.3."""

import json
import lzma
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from vfio_migration.emulator.board import Board
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.profile import Profile

DATA = Path(__file__).parents[3] / "data"
CAPTURED: dict[str, Any] = json.loads(lzma.decompress((DATA / "qtree" / "qemu-11.1.3.json.xz").read_bytes()))
# What a board does not know: whether the host can play sounds.
OF_THE_HOST = "no default audio driver available"
REFUSED = [each for each in CAPTURED["refused"] if OF_THE_HOST not in each["error"]]


def devices(arguments: list[str]) -> Iterator[dict[str, object]]:
    for option, value in pairwise(arguments):
        if option == "-device":
            driver, *rest = value.split(",")
            yield {"driver": driver, **dict(each.split("=", 1) for each in rest)}


def board_of(line: str) -> Board:
    machine, *arguments = line.split()
    name, *options = machine.split(",")
    given = dict(pairwise(arguments))
    board = Board(
        Profile.bundled(),
        name,
        memory=int(given.get("-m", "64M")[:-1]) << (30 if given.get("-m", "M").endswith("G") else 20),
        cpus=int(given.get("-smp", "1")),
        defaults="-defaults" in arguments,
        options=dict(option.split("=", 1) for option in options),
    )
    for each in devices(arguments):
        board.add(each)
    return board


@pytest.mark.slow
@pytest.mark.parametrize("captured", CAPTURED["made"], ids=lambda captured: captured["line"][-40:])
def test_a_board_is_what_the_real_one_is(captured: dict[str, Any]) -> None:
    board = board_of(captured["line"])
    assert board.qtree_text().replace("\r\n", "\n") == captured["qtree"]
    assert board.query_pci() == captured["query-pci"]
    assert board.pci_text().replace("\r\n", "\n") == captured["info pci"]
    assert board.migration_blockers == captured["blocked"]
    assert [each["name"] for each in board.qom("/machine/peripheral").list()] == captured["peripheral"]


@pytest.mark.slow
@pytest.mark.parametrize("captured", REFUSED, ids=lambda captured: captured["line"][-40:])
def test_what_the_real_one_refuses_is_refused_in_its_words(captured: dict[str, Any]) -> None:
    with pytest.raises(QmpError) as raised:
        board_of(captured["line"])
    assert captured["error"].endswith(f": {raised.value}")


def test_real_vfio_devices() -> None:
    tree = (DATA / "qemu-11.1.3-vfio" / "step20-qtree.txt").read_text()
    board = Board(Profile.bundled(), "q35", memory=32 << 20, defaults=False)
    paths = [line.split('"')[1] for line in tree.splitlines() if "sysfsdev" in line]
    for number, path in enumerate(reversed(paths)):
        options = {"sysfsdev": path, "enable-migration": "on", "migration-events": "on"}
        board.add({"driver": "vfio-pci", "id": f"vf{number}", **options})
    assert len(paths) == 4
    assert board.qtree_text().splitlines() == tree.splitlines()
    assert board.qom("vf3").get("sysfsdev") == paths[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"driver": "edu", "bus": "br", "multifunction": "on"},
            "Invalid parameter type for 'multifunction', expected: boolean",
        ),
        ({"driver": "edu", "bus": "br", "romsize": "12"}, "Parameter 'romsize' expects uint64"),
        ({"driver": "edu", "bus": "br", "romsize": -1}, "Parameter 'romsize' expects uint32_t"),
        ({"driver": "edu", "bus": "br", "rombar": 99999999999}, "Parameter 'rombar' expects int32_t"),
        ({"driver": "edu", "bus": "br", "addr": True}, "Invalid parameter type for 'addr', expected int or str"),
        ({"driver": "edu", "bus": "br", "addr": 300}, "Parameter 'addr' expects a value between -1 and 255"),
        (
            {"driver": "virtio-net-pci", "bus": "br", "mac": "xx"},
            "Property 'virtio-net-device.mac' doesn't take value 'xx'",
        ),
        ({"driver": "virtio-vga", "bus": "br"}, "Device 'virtio-vga' does not support hotplugging"),
        ({"driver": "vfio-pci-nohotplug", "bus": "br"}, "Device 'vfio-pci-nohotplug' does not support hotplugging"),
        ({"driver": "usb-tablet", "port": "9"}, "usb port 9 (bus x.0) not found (in use?)"),
        ({"driver": "virtio-rng-device"}, "No 'virtio-bus' bus found for device 'virtio-rng-device'"),
        ({"driver": "isa-serial"}, "Bus 'isa.0' does not support hotplugging"),
        ({"driver": "edu", "bus": "br", "id": ""}, "Invalid qdev ID ''"),
        ({"driver": 5}, "Parameter 'driver' is missing"),
    ],
)
def test_errors_of_device_add(options: dict[str, object], words: str) -> None:
    board = board_of("q35 -device nec-usb-xhci,id=x -device pcie-root-port,id=rp -device pcie-pci-bridge,id=br,bus=rp")
    before = board.qtree_text()
    with pytest.raises(QmpError) as raised:
        board.add(options, hotplugged=True)
    assert str(raised.value) == words
    assert board.qtree_text() == before


def test_json_of_the_command_line_is_typed_too() -> None:
    board = board_of("q35")
    with pytest.raises(QmpError, match=r"expected: boolean"):
        board.add({"driver": "edu", "multifunction": "on"}, typed=True)
    board.add({"driver": "edu", "multifunction": True, "id": "a"}, typed=True)
    with pytest.raises(QmpError, match=r"^Duplicate device ID 'a'$"):
        board.add({"driver": "edu", "id": "a"}, typed=True)
