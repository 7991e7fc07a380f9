"""
Tests with a real kernel. `.ci/kernel` makes a guest that has one, and runs them there.

Where there is no mtty, the kernel's sample device, there is nothing to collect.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from suite.machines import LIMIT
from suite.mtty import CLASSES, made, removed

from vfio_migration.changes.launchers import THREADS
from vfio_migration.kernel import KernelDevice, System
from vfio_migration.kernel.opening import Way

collect_ignore_glob = [] if (CLASSES / "mtty").is_dir() else ["test_*.py"]
Opening = Callable[..., KernelDevice]


@pytest.fixture
def uuids() -> Iterator[Callable[[], str]]:
    """Makes mediated devices, which are gone after the test."""
    with ExitStack() as after:

        def make() -> str:
            name = made()
            after.callback(removed, name)
            return name

        yield make


@pytest.fixture
def opened(uuids: Callable[[], str]) -> Iterator[Opening]:
    """Opens a new device, which is closed and gone after the test."""
    with ExitStack() as after:

        def make(system: System | None = None, way: Way | None = None) -> KernelDevice:
            device = KernelDevice(uuids(), system=system, way=way)
            after.callback(device.close)
            return device

        yield make


@pytest.fixture(params=THREADS)
def threads(request: pytest.FixtureRequest) -> str:
    """Each way in which state-change threads come about."""
    return str(request.param)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """When a test is over, every thread that it started ends."""
    before = set(threading.enumerate())
    yield
    for thread in [each for each in threading.enumerate() if each not in before]:
        thread.join(LIMIT / 3)
        assert not thread.is_alive(), f"{thread.name!r} is left"
