"""What a real QEMU 11.1.3 answered about its devices and objects, against what the board says."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from vfio_migration.emulator.board import Board
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.profile import Profile

DATA = Path(__file__).parents[3] / "data"
HOST = (DATA / "qemu-11.1.3" / "host.cmdline.txt").read_text()
SEVERAL = "Path '{}' is ambiguous"


def dialogue(name: str) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Give command, arguments and reply of each question, in order."""
    waiting: dict[tuple[str, str], dict[str, Any]] = {}
    found = []
    for line in (DATA / "qmp" / f"{name}.jsonl").read_text().splitlines():
        each = json.loads(line)
        if "id" in each.get("C", {}):
            waiting[each["on"], each["C"]["id"]] = each["C"]
        elif "id" in each.get("S", {}):
            command = waiting.pop((each["on"], each["S"]["id"]))
            found.append((command["execute"], command.get("arguments", {}), each["S"]))
    return found


def board_of(command_line: str) -> Board:
    board = Board(Profile.bundled(), "q35", memory=64 << 20, defaults=False)
    for option, value in pairwise(shlex.split(command_line.replace("\\\n", " "))):
        if option == "-device":
            driver, *rest = value.split(",")
            board.add({"driver": driver, **dict(each.split("=", 1) for each in rest)})
    return board


def of_monitor(board: Board, command: str, arguments: dict[str, Any]) -> Any:
    if command == "query-pci":
        return board.query_pci()
    return board.qtree_text() if arguments["command-line"] == "info qtree" else board.pci_text()


def of_object(board: Board, command: str, arguments: dict[str, Any]) -> Any:
    if command == "qom-list-get":
        return [{"properties": board.qom(path).list_get()} for path in arguments["paths"]]
    found = board.qom(arguments["path"])
    if command == "qom-list":
        return found.list()
    if command == "qom-get":
        return found.get(arguments["property"])
    return found.set(arguments["property"], arguments["value"])


def answer(board: Board, command: str, arguments: dict[str, Any]) -> Any:
    if command.startswith("qom-"):
        return of_object(board, command, arguments)
    if command == "device_add":
        board.add(arguments, hotplugged=True)
    elif command == "device_del":
        board.request_unplug(arguments["id"])
    elif command == "system_reset":
        board.complete_unplugs()
    else:
        return of_monitor(board, command, arguments)
    return None


def reply(board: Board, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        returned = answer(board, command, arguments)
    except QmpError as error:
        return {"error": {"class": error.kind, "desc": str(error)}}
    return {"return": {} if returned is None else returned}


def without_id(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "id"}


def without_firmware(message: dict[str, Any]) -> dict[str, Any]:
    """Leave out the numbers of buses, which firmware had given by the time of the capture."""
    for each in message["return"] if isinstance(message.get("return"), list) else []:
        if "properties" in each:
            each["properties"] = [one for one in each["properties"] if one["name"] != "busnr"]
    return message


def check(board: Board, name: str, commands: tuple[str, ...]) -> int:
    count = 0
    for command, arguments, expected in dialogue(name):
        if command in commands:
            count += 1
            given, wanted = (
                without_firmware(each) for each in (reply(board, command, arguments), without_id(expected))
            )
            assert given == wanted, (command, arguments)
    return count


def test_devices_come_and_go() -> None:
    board = board_of(
        "-device pcie-root-port,id=rp0,chassis=1,slot=1 -device edu,id=vf0,bus=rp0 "
        "-device pcie-root-port,id=rp1,chassis=2,slot=2 -device pcie-root-port,id=rp2,chassis=3,slot=3,hotplug=off"
    )
    commands = ("device_add", "device_del", "system_reset", "qom-get", "qom-list")
    assert check(board, "device-add-del", commands) == 24


def test_objects_are_listed_read_and_set() -> None:
    commands = ("qom-list", "qom-get", "qom-set", "qom-list-get")
    assert check(board_of(HOST), "qom", commands) > 20


def test_pci_and_tree_as_the_monitor_has_them() -> None:
    board = board_of(HOST)
    compared = 0
    for command, arguments, expected in dialogue("query-pci-and-qtree"):
        if command == "query-pci" or arguments.get("command-line") in ("info qtree", "info pci"):
            compared += 1
            given, wanted = reply(board, command, arguments), without_id(expected)
            if isinstance(given["return"], str):
                hidden = re.compile("MCFG = .*")
                assert hidden.sub("", given["return"]) == hidden.sub("", wanted["return"])
            else:
                assert given == wanted
    assert compared == 3


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        (
            "-device ivshmem-plain,memdev=m0,master=off,id=shm0",
            ["Migration is disabled when using feature 'peer mode' in device 'ivshmem'"],
        ),
        (
            "-device nec-usb-xhci,id=xhci0 -device usb-wacom-tablet,id=tab0,bus=xhci0.0",
            ["non-migratable device: 0000:00:01.0/1/usb-wacom"],
        ),
    ],
)
def test_devices_that_block_a_migration(devices: str, words: list[str]) -> None:
    captured = [
        reply["return"].get("blocked-reasons") for name, _, reply in dialogue("blocked") if name == "query-migrate"
    ]
    board = board_of(devices)
    assert board.migration_blockers == words
    assert words in captured


def test_a_device_that_waits_is_not_asked_twice_while_the_machine_stands() -> None:
    board = board_of("-device pcie-root-port,id=rp0,chassis=1 -device edu,id=vf0,bus=rp0")
    assert board.request_unplug("vf0") is False
    assert board.request_unplug("vf0") is False
    with pytest.raises(QmpError, match=r"^Device vf0 is already in the process of unplug$"):
        board.request_unplug("vf0", stands=True)


def test_what_several_objects_are_called_is_nobody() -> None:
    board = board_of("-device pcie-root-port,id=rp0,chassis=1")
    with pytest.raises(QmpError, match=r"^Device 'rp0' not found$"):
        board.qom("rp0")
    with pytest.raises(QmpError, match=r"^Path 'rp0' is ambiguous$"):
        board.qom("rp0", ambiguous=SEVERAL.format("rp0"))


def test_hotplug_of_usb_and_scsi_needs_no_guest() -> None:
    board = board_of("-device nec-usb-xhci,id=x -device virtio-scsi-pci,id=s")
    board.add({"driver": "usb-tablet", "id": "t"}, hotplugged=True)
    board.add({"driver": "scsi-hd", "id": "h", "drive": "d0"}, hotplugged=True)
    assert board.qom("t").get("hotplugged") is True
    assert board.request_unplug("t")
    assert board.request_unplug("/machine/peripheral/h")
    with pytest.raises(QmpError, match=r"^Device 't' not found$"):
        board.qom("t")


def test_what_is_plugged_into_a_device_goes_first() -> None:
    board = board_of(
        "-device pcie-root-port,id=rp0,chassis=1 -device qemu-xhci,id=x "
        "-device usb-hub,id=h -device usb-kbd,id=k,port=1.1"
    )
    hub = board.unpluggable("h")
    assert [each.id for each in board.going_with(hub)] == ["k", "h"]
    assert board.request_unplug("h")
    assert [each["name"] for each in board.qom("/machine/peripheral").list()] == ["type", "x", "rp0"]
    board.add({"driver": "pcie-pci-bridge", "id": "br", "bus": "rp0"}, hotplugged=True)
    board.add({"driver": "edu", "id": "a", "bus": "br"})
    assert not board.request_unplug("br")
    assert [each.id for each in board.complete_unplugs()] == ["a", "br"]


def test_a_bridge_that_was_there_from_the_start_stays() -> None:
    board = board_of("-device pcie-root-port,id=rp0,chassis=1 -device pcie-pci-bridge,id=br,bus=rp0")
    assert not board.request_unplug("br")
    assert board.complete_unplugs() == []
    assert board.unpluggable("br").id == "br"


def test_unplugs_are_completed_in_order() -> None:
    board = board_of(
        "-device pcie-root-port,id=rp0,chassis=1 -device pcie-root-port,id=rp1,chassis=2 -device edu,id=b,bus=rp0 "
        "-device edu,id=a,bus=rp1 -device pci-bridge,id=pb,chassis_nr=9 -device edu,id=c,bus=pb "
        "-device edu,id=d,bus=pb -device edu,id=e,bus=pb"
    )
    for name in "abdce":
        assert not board.request_unplug(name)
    assert "".join(each.id for each in board.complete_unplugs()) == "cdeab"
