"""Command lines that no machine can be made of: what a QEMU 11.1.3 said of each."""

import pytest

from vfio_migration.emulator.command_line.configuration import read_command_line
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.process.machine import make_emulated
from vfio_migration.emulator.profile import Profile
from vmstate import VirtualClock

MAXMEM, MAXIMUM, INITIAL = "invalid value of maxmem: ", "maximum memory size", "initial memory size"
MISSING = "Property '{}' can't find value 'x'"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "-m 64,maxmem=32M",
            f"{MAXMEM}maximum memory size (0x2000000) must be at least the initial memory size (0x4000000)",
        ),
        ("-m 64,slots=2", "slots specified but no max-size"),
        (
            "-m 64,maxmem=64M,slots=1",
            f"{MAXMEM}memory slots were specified but {MAXIMUM} (0x4000000) is equal to the {INITIAL} (0x4000000)",
        ),
        ("-m size=64M,slots=300,maxmem=1G", "unsupported amount of memory slots: 300"),
        ("-smp 5000", "Invalid SMP CPUs 5000. The max CPUs supported by machine 'pc-q35-11.1' is 4096"),
        ("-smp foo=1", "Parameter 'smp.foo' is unexpected"),
        ("-cpu nosuch", "unable to find CPU model 'nosuch'"),
        ("-machine q35,memory-backend=x", "Memory backend 'x' not found"),
        ("-mon foo", '-mon foo: chardev "foo" not found'),
        ("-uuid 1234", "-uuid 1234: failed to parse UUID string: wrong format"),
        ("-chardev null,id=c -chardev null,id=c", "-chardev null,id=c: Duplicate ID 'c' for chardev"),
        ("-netdev user,id=n -netdev user,id=n", "-netdev user,id=n: Duplicate ID 'n' for netdev"),
        ("-object rng-builtin,id=a -object rng-builtin,id=a", "-object rng-builtin,id=a: Duplicate ID 'a' for object"),
        (
            "-blockdev driver=null-co,node-name=a -blockdev driver=null-co,node-name=a",
            "-blockdev driver=null-co,node-name=a: Duplicate nodes with node-name='a'",
        ),
        (
            "-blockdev driver=null-co",
            "-blockdev driver=null-co: 'node-name' must be specified for the root node",
        ),
        ("-device virtio-net-pci,netdev=x", MISSING.format("virtio-net-device.netdev")),
        ("-device virtio-blk-pci,drive=x", MISSING.format("virtio-blk-device.drive")),
        ("-device e1000,netdev=x", MISSING.format("e1000.netdev")),
        ("-device virtio-serial-pci -device virtserialport,chardev=x", MISSING.format("virtserialport.chardev")),
        ("-device virtio-rng-pci,rng=x", "-device virtio-rng-pci,rng=x: Device 'x' not found"),
        ("-device virtio-blk-pci,drive=", "-device virtio-blk-pci,drive=: drive property not set"),
        (
            "-netdev user,id=n -device virtio-net-pci,netdev=n -device virtio-net-pci,netdev=n",
            "-device virtio-net-pci,netdev=n: Property 'virtio-net-device.netdev' can't take value 'n', it's in use",
        ),
        ("-cpu help", "-cpu help: nothing is listed here; a monitor is asked by query-cpu-definitions"),
    ],
)
def test_it_is_refused_in_qemus_words(line: str, words: str) -> None:
    with pytest.raises(QmpError) as caught:
        make_emulated(
            read_command_line(["-machine", "q35", "-nodefaults", *line.split()]),
            Profile.bundled(),
            clock=VirtualClock(),
            trace=None,
            scenario=None,
            on_failed_incoming=lambda _: None,
        )
    assert str(caught.value).endswith(words)
