"""What `-smp` comes to: a QEMU 11.1.3 was given each of these."""

import pytest

from vfio_migration.emulator.command_line.keyvals import parse_keyvals
from vfio_migration.emulator.command_line.topology import Topology, read_topology
from vfio_migration.emulator.errors import QmpError

TOO_MANY = "Invalid CPU topology: maxcpus must be equal to or greater than smp: "
PRODUCT = "Invalid CPU topology: product of the hierarchy must match maxcpus: "


@pytest.mark.parametrize(
    ("said", "topology"),
    [
        ("4", Topology(4, 4, 4, 1)),
        ("1,maxcpus=2,sockets=2,cores=1", Topology(1, 2, 1, 1)),
        ("4,maxcpus=8,sockets=2", Topology(4, 8, 4, 1)),
        ("sockets=2,cores=2", Topology(4, 4, 2, 1)),
        ("4,sockets=2,cores=1", Topology(4, 4, 1, 2)),
        ("2,clusters=1", Topology(2, 2, 2, 1)),
    ],
)
def test_what_is_not_said_is_found(said: str, topology: Topology) -> None:
    assert read_topology(parse_keyvals(said, "cpus")) == topology


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("0", "Invalid CPU topology: CPU topology parameters must be greater than zero"),
        ("2,dies=0", "Invalid CPU topology: CPU topology parameters must be greater than zero"),
        (
            "2,maxcpus=1",
            f"{TOO_MANY}sockets (1) * dies (1) * modules (1) * cores (1) * threads (1) == maxcpus (1) < smp_cpus (2)",
        ),
        (
            "cpus=4,sockets=3",
            f"{PRODUCT}sockets (3) * dies (1) * modules (1) * cores (1) * threads (1) != maxcpus (4)",
        ),
        (
            "maxcpus=4,cores=3",
            f"{PRODUCT}sockets (1) * dies (1) * modules (1) * cores (3) * threads (1) != maxcpus (4)",
        ),
        ("foo=1", "Parameter 'smp.foo' is unexpected"),
        ("abc", "Parameter 'smp.cpus' expects integer"),
        ("2,cores=x", "Parameter 'smp.cores' expects integer"),
        ("2,clusters=2", "clusters > 1 not supported by this machine's CPU topology"),
    ],
)
def test_what_makes_no_sense_is_refused(said: str, words: str) -> None:
    with pytest.raises(QmpError) as caught:
        read_topology(parse_keyvals(said, "cpus"))
    assert str(caught.value) == words
