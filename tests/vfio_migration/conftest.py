import threading
from collections.abc import Callable, Iterator

import pytest
from suite.machines import LIMIT, SERIAL, after_the_test

from vfio_migration.changes.launchers import THREADS
from vmstate import Clock, RealClock, VirtualClock


@pytest.fixture(params=THREADS)
def threads(request: pytest.FixtureRequest) -> str:
    """Each way in which state-change threads come about."""
    return str(request.param)


@pytest.fixture(params=(SERIAL, *THREADS))
def mode(request: pytest.FixtureRequest) -> str:
    """Those, and no threads at all."""
    return str(request.param)


@pytest.fixture(params=[VirtualClock, RealClock], ids=["virtual time", "real time"])
def clock(request: pytest.FixtureRequest) -> Clock:
    """A clock of each kind."""
    make: Callable[[], Clock] = request.param
    return make()


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """When the devices of a test have been taken away, every thread that it started ends."""
    before = set(threading.enumerate())
    yield
    after_the_test.close()
    for thread in [each for each in threading.enumerate() if each not in before]:
        thread.join(LIMIT / 3)
        assert not thread.is_alive(), f"{thread.name!r} is left"
