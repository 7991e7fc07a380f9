"""What both machines of a migration have to have alike, in the words of a QEMU 11.1.3 that was given such pairs."""

import json
from dataclasses import replace
from typing import Any

import pytest

from vfio_migration import StreamError
from vfio_migration.emulator.errors import DifferentMachineError
from vfio_migration.emulator.migrating.capabilities import NONE_SET
from vfio_migration.emulator.migrating.parameters import DEFAULTS
from vfio_migration.emulator.migrating.same_machine import MachineShape, MachineState
from vfio_migration.errors import described

SHAPE = MachineShape("pc-q35-11.1", "11111111-1111-1111-1111-111111111111", "pc.ram", 0x4000000)
OTHER_UUID = "22222222-1111-1111-1111-111111111111"
CONFIGURATION = "post load hook failed for: configuration, version_id: 1, minimum_version: 0: "
UUID = (
    "Loading VM subsection 'configuration/uuid' in 'configuration' failed: post load hook failed for: "
    "configuration/uuid, version_id: 1, minimum_version: 1, ret: -22"
)
RAM = "error while loading state for instance 0x0 of device 'ram': Failed to load vmstate version_id: 4, ret: -22"


VF0, VF1 = "0000:00:05.0/vfio", "0000:00:01.0:00.0/vfio"


def with_vfio(**sections: str) -> MachineState:
    return MachineState(SHAPE, lambda: (NONE_SET, DEFAULTS), lambda: sections)


def no_section(name: str) -> str:
    return (
        f"Unknown section or instance '{name}' 0. Make sure that your current VM setup matches your saved VM setup, "
        "including any hotplugged devices"
    )


def state(shape: MachineShape = SHAPE, *capabilities: str, **parameters: Any) -> MachineState:
    switched = {**NONE_SET, **dict.fromkeys(capabilities, True)}
    changed = {**DEFAULTS, **{name.replace("_", "-"): value for name, value in parameters.items()}}
    return MachineState(shape, lambda: (switched, changed))


@pytest.mark.parametrize(
    ("source", "destination", "printed", "text"),
    [
        (
            state(),
            state(replace(SHAPE, machine_type="pc-i440fx-11.1", ram_size=0x2000000)),
            (),
            f"{CONFIGURATION}Machine type received is 'pc-q35-11.1' and local is 'pc-i440fx-11.1'",
        ),
        (
            state(),
            state(replace(SHAPE, ram_size=0x2000000)),
            ("Size mismatch: pc.ram: 0x4000000 != 0x2000000: Invalid argument",),
            RAM,
        ),
        (
            state(replace(SHAPE, ram_block="mem")),
            state(),
            ('Unknown ramblock "mem", cannot accept migration',),
            RAM,
        ),
        (
            state(SHAPE, "validate-uuid"),
            state(replace(SHAPE, uuid=OTHER_UUID, machine_type="pc-q35-10.0")),
            (f"UUID received is {SHAPE.uuid} and local is {OTHER_UUID}",),
            UUID,
        ),
        (
            state(SHAPE, "x-ignore-shared"),
            state(replace(SHAPE, ram_size=0x2000000)),
            ("Capability x-ignore-shared is off, but received capability is on",),
            f"{CONFIGURATION}Failed to validate capabilities",
        ),
        (
            state(),
            state(SHAPE, "x-ignore-shared"),
            ("Capability x-ignore-shared is on, but received capability is off",),
            f"{CONFIGURATION}Failed to validate capabilities",
        ),
        (state(SHAPE, "postcopy-ram"), state(), (), "RAM postcopy is disabled but have 16 byte advise"),
        (
            state(SHAPE, "multifd", multifd_compression="zlib"),
            state(SHAPE, "multifd"),
            (),
            "multifd-compression is zlib at the source and none here",
        ),
        (with_vfio(vf0=VF0), with_vfio(vf0=VF1), (), no_section(VF0)),
        (with_vfio(vf0=VF0, vf1=VF1), with_vfio(vf0=VF0), (), no_section(VF1)),
        (
            with_vfio(vf0=VF0),
            with_vfio(vf1=VF0),
            (),
            f"{VF0} is 'vf0' at the source and 'vf1' here: give VFIO devices the same ids",
        ),
    ],
    ids=[
        "type before size",
        "size",
        "block",
        "uuid before type",
        "shared",
        "shared here",
        "postcopy",
        "compression",
        "place",
        "no device",
        "id",
    ],
)
def test_a_machine_that_is_another_is_refused(
    source: MachineState, destination: MachineState, printed: tuple[str, ...], text: str
) -> None:
    with pytest.raises(DifferentMachineError) as caught:
        destination.check_configuration(source.configuration())
    assert (caught.value.printed, str(caught.value)) == (printed, text)
    assert all(line in described(caught.value) for line in printed)  # what the source is told


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (state(), state()),
        (state(), state(replace(SHAPE, uuid=OTHER_UUID))),
        (state(), state(replace(SHAPE, uuid=OTHER_UUID), "validate-uuid")),
        (state(SHAPE, "postcopy-ram"), state(SHAPE, "postcopy-ram")),
        (state(), state(SHAPE, "postcopy-ram")),
        (state(SHAPE, multifd_compression="zlib"), state()),
        (with_vfio(vf1=VF1), with_vfio(vf0=VF0, vf1=VF1)),
    ],
    ids=[
        "alike",
        "nobody looks",
        "only the destination",
        "postcopy",
        "postcopy here",
        "without channels",
        "a device more",
    ],
)
def test_a_machine_that_is_like_this_one_may_come(source: MachineState, destination: MachineState) -> None:
    destination.check_configuration(source.configuration())


GOOD = json.loads(state().configuration())


def altered(**values: object) -> bytes:
    return json.dumps({**GOOD, **values}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[" * 60_000,
        b"{}",
        altered(ram_size="64"),
        altered(ram_size=1.5),
        altered(ram_size=float("inf")),
        altered(vfio=["vf0"]),
        altered(machine_type="a\nqemu: forged"),
        altered(uuid="\ud800"),
        altered(ram_block="m" * 60_000),
    ],
    ids=["nothing", "no text", "deep", "empty", "text", "fraction", "infinite", "list", "two lines", "half", "long"],
)
def test_what_is_no_configuration_is_said_so(data: bytes) -> None:
    with pytest.raises(StreamError, match="the configuration of a machine cannot be read") as caught:
        state().check_configuration(data)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)
