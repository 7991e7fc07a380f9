"""How a source comes back from a migration that failed or was cancelled (QEMU's `migration_iteration_finish`)."""

from collections.abc import Callable

from vfio_migration.live.stream import NotedState
from vmstate import Machine, MigrationEvent, RunState, get_logger


def tell_all(machine: Machine, event: MigrationEvent, keep_error: Callable[[BaseException], None]) -> None:
    """Tell all that migrates, the last registered first, whatever the event (QEMU's `migration_call_notifiers`)."""
    machine.emit("migration_call_notifiers", type=int(event))
    for migratable in reversed(machine.migratables):
        try:
            migratable.notify(event)
        except BaseException as error:  # noqa: BLE001 - the others still have to hear it
            _log.error("notifier failed", machine=machine.name, migratable=migratable.id, error=repr(error))
            keep_error(error)


def go_back(
    machine: Machine, noted: NotedState | None, keep_error: Callable[[BaseException], None]
) -> list[BaseException]:
    """
    Bring all devices to RUNNING and the machine to what it was when it was stopped; gives what handlers raised.

    To be called under the big lock. A machine that was never stopped stays as it is, and so does one that was shut
    down since. What was live starts again: its devices have gone to RUNNING by their notifiers, and go through the
    handlers once more.
    """
    tell_all(machine, MigrationEvent.FAILED, keep_error)
    if noted is None or machine.run_state is RunState.SHUTDOWN:
        return []
    try:
        if noted.run_state.live:
            if not machine.run_state.live:
                machine.resume()
        elif machine.run_state is RunState.FINISH_MIGRATE:
            machine.set_run_state(reachable(machine.run_state, noted.run_state))
    except BaseException as error:  # noqa: BLE001 - handlers raised; the machine is back all the same
        _log.error("going back failed in part", machine=machine.name, error=repr(error))
        return [error]
    return []


def reachable(current: RunState, wanted: RunState) -> RunState:
    """Give the run state that was noted, or `paused` where QEMU knows no way to it (from `debug`, for one)."""
    return wanted if current.may_become(wanted) else RunState.PAUSED


_log = get_logger("vfio_migration.live.going_back")
