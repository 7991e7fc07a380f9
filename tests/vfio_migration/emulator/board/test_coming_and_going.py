"""Devices added and taken off in any order: ids, slots, tree and objects stay in step."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

import vmstate
from vfio_migration.emulator.board import Board
from vfio_migration.emulator.board.hash_order import HashOrder
from vfio_migration.emulator.board.pci_slots import addresses
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.profile import Profile

TYPES = ("edu", "virtio-rng-pci", "pcie-root-port", "virtio-net-pci", "nec-usb-xhci", "vfio-pci", "usb-tablet")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(TYPES),
        st.sampled_from(["a", "b", "c", "d", ""]),
        st.sampled_from(["pcie.0", "a", "b", "", "x"]),
    )
    | st.sampled_from(["a", "b", "c", "d"]),
    max_size=20,
)


def is_sound(board: Board) -> None:
    every = list(board.devices())
    ids = [each.id for each in every if each.path.startswith("/machine/peripheral/") and each.path.count("/") == 3]
    assert len(ids) == len(set(ids))
    listed = {each["name"] for each in board.qom("/machine/peripheral").list()} - {"type"}
    assert listed == set(ids)
    for each in every:
        assert board.qom(each.path).type == each.type
        if each.parent is not None:
            assert each.device.bus is each.parent.bus
            assert board.is_a(each.parent.type, "PCI") is False or each in addresses(each.parent).values()


@settings(max_examples=30)
@given(STEPS)
def test_tree_and_objects_stay_in_step(steps: Sequence[str | tuple[str, str, str]]) -> None:
    board = Board(Profile.bundled(), "q35", memory=1 << 26, defaults=False)
    empty = board.qtree_text()
    added = []
    for number, step in enumerate(steps):
        before = board.qtree_text()
        try:
            if isinstance(step, str):
                board.request_unplug(step)
            else:
                kind, id_, bus = step
                more = {"chassis": str(number)} if kind == "pcie-root-port" else {}
                options = {"driver": kind, **more, **({"id": id_} if id_ else {}), **({"bus": bus} if bus else {})}
                added.append(board.add(options))
        except QmpError:
            assert board.qtree_text() == before
        is_sound(board)
    there = {id(each) for each in board.devices()}
    for device in reversed(added):
        if id(device) in there:
            board.discard(device)
            there = {id(each) for each in board.devices()}
    assert board.qtree_text() == empty


@given(st.lists(st.text("abcdefgh01", min_size=1, max_size=4), max_size=60))
def test_names_are_listed_once_however_they_came_and_went(names: list[str]) -> None:
    order, kept = HashOrder(), set[str]()
    for name in names:
        if name in kept:
            order.remove(name)
            kept.remove(name)
        else:
            order.add(name)
            kept.add(name)
        assert sorted(order.listing()) == sorted(kept)


def test_devices_of_another_tree_are_adopted() -> None:
    root = vmstate.Bus("main-system-bus")
    bridge = vmstate.Device("", root, type="q35-pcihost")
    port = vmstate.Device("rp0", vmstate.Bus("pcie.0", bridge), type="pcie-root-port")
    device = vmstate.Device("vf0", vmstate.Bus("rp0", port), type="vfio-pci")
    device.properties["host"] = "0000:01:00.0"
    board = Board(Profile.bundled(), "none", memory=0)
    adopted = board.adopt(device)
    assert board.root is root
    assert board.adopt(device) is adopted
    assert adopted.parent is not None
    assert adopted.parent.parent is not None
    assert adopted.parent.parent.device is port
    assert '        bus: rp0\r\n          type PCIE\r\n          dev: vfio-pci, id "vf0"\r\n' in board.qtree_text()
    assert board.qom("/machine/peripheral/vf0").get("host") == "0000:01:00.0"
    assert board.unpluggable("vf0") is adopted
    assert not board.request_unplug("vf0")
    assert board.complete_unplugs() == [adopted]
    assert device.bus is None
    assert "vf0" not in board.qtree_text()


def test_a_type_without_a_template_is_added_with_what_it_lists() -> None:
    profile = Profile.bundled()
    assert profile.template("vhost-user-blk-pci") is None
    board = Board(profile, "q35", memory=1 << 26, defaults=False)
    board.add({"driver": "vhost-user-blk-pci", "id": "v", "chardev": "c", "num-queues": "3"})
    assert "    num-queues = 3 (0x3)\r\n" in board.qtree_text()
    assert board.qom("v").get("num-queues") == 3
