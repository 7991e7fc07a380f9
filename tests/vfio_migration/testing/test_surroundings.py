import socket
from collections.abc import Callable

import pytest
from suite.machines import make_pair

from vfio_migration import MigrationStatus
from vfio_migration.testing import ScarceThreads, destination_gone_at, raising_handler, stream_cut_at
from vmstate import RunState, VirtualClock


@pytest.mark.parametrize("size", [0, 1, 40, 300, 2500, 9000])
@pytest.mark.parametrize("make", [stream_cut_at, destination_gone_at])
def test_a_connection_that_breaks_fails_the_migration_and_the_source_goes_on(
    make: Callable[[int], tuple[socket.socket, socket.socket]], size: int, threads: str
) -> None:
    pair = make_pair(threads=threads)
    report = pair.migrate(sockets=make(size))
    assert report.status is MigrationStatus.FAILED
    assert pair.source.machine.run_state is RunState.RUNNING
    assert pair.migrate().completed


def test_a_connection_that_holds_long_enough_is_no_fault() -> None:
    assert make_pair().migrate(sockets=stream_cut_at(10**6)).completed
    assert make_pair().migrate(sockets=destination_gone_at(10**6)).completed


@pytest.mark.parametrize("times", [None, 1, 3])
def test_without_threads_changes_are_made_on_the_spot_and_nothing_is_lost(times: int | None) -> None:
    pair = make_pair(("a", "b", "c"), clock=ScarceThreads(VirtualClock(), times=times))
    assert pair.migrate().completed


def test_a_handler_that_raises_fails_one_migration(threads: str) -> None:
    pair = make_pair(threads=threads)
    pair.source.machine.handlers.add(raising_handler(ValueError("on purpose"), running=False))
    report = pair.migrate()
    assert report.status is MigrationStatus.FAILED
    assert pair.migrate().completed


def test_which_threads_are_refused_can_be_told_anew() -> None:
    clock = ScarceThreads(VirtualClock(), times=0)

    def is_refused(name: str) -> bool:
        try:
            clock.start_thread(lambda: None, name).join()
        except RuntimeError:
            return True
        return False

    seen = [is_refused("vfio_vmstate_change vf0")]
    clock.refuse(1)
    seen += [is_refused("another"), is_refused("vfio_vmstate_change vf0"), is_refused("vfio_vmstate_change vf0")]
    clock.refuse(pattern="another")
    seen += [is_refused("another"), is_refused("another"), is_refused("vfio_vmstate_change vf0")]
    assert seen == [False, False, True, False, True, True, False]
