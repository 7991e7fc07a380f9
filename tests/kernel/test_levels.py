"""Two hundred migrations of real devices leave descriptors and memory where they were."""

from collections.abc import Callable
from pathlib import Path

from vfio_migration.kernel import KernelDevice
from vfio_migration.testing import PairRig, count_descriptors
from vmstate import RealClock

GROWTH_KIB = 4096  # of 150 migrations; what leaks a thread's stack, a buffer or a recorder in each is far above


def resident_kib() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1])


def migrate_there_and_back(uuids: tuple[str, str], times: int) -> None:
    for _ in range(times):
        with PairRig(clock=RealClock()) as pair, KernelDevice(uuids[0]) as here, KernelDevice(uuids[1]) as there:
            pair.source.add_device("vf0", backend=here)
            pair.destination.add_device("vf0", backend=there)
            assert pair.migrate().completed
            assert pair.migrate(back=True).completed


def test_descriptors_and_memory_stay_level(uuids: Callable[[], str]) -> None:
    names = uuids(), uuids()
    migrate_there_and_back(names, 25)
    descriptors, memory = count_descriptors(), resident_kib()
    migrate_there_and_back(names, 75)
    assert count_descriptors() == descriptors
    grown = resident_kib() - memory
    assert grown < GROWTH_KIB
