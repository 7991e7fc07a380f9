"""Commands that start, stop, reset and end a machine, and ask how it is (QEMU's `qapi/run-state.json`, `misc.json`)."""

from typing import Any

from vfio_migration.emulator.commands.command import Call, CommandTable
from vfio_migration.emulator.errors import QmpError
from vmstate import InvalidTransitionError, Machine, RunState, StartRefusedError, get_logger

table = CommandTable()
_HAS_TO_BE_RESET = "Resetting the Virtual Machine is required"


@table.command("query-status")
def query_status(call: Call) -> Any:
    """Say what the machine is doing."""
    state = call.emulated.machine.run_state
    return {"status": str(state), "running": state is RunState.RUNNING}


@table.command("stop")
def stop(call: Call) -> None:
    """Stop the machine."""
    machine = call.emulated.machine
    if machine.run_state is RunState.SUSPENDED or machine.run_state.live or machine.run_state is RunState.INMIGRATE:
        insist(machine, machine.stop)


@table.command("cont")
def cont(call: Call) -> None:
    """Start the machine."""
    machine = call.emulated.machine
    if machine.run_state is RunState.FINISH_MIGRATE:
        raise QmpError("Migration is not finalized yet")
    try:
        insist(machine, machine.start)
    except (StartRefusedError, InvalidTransitionError) as error:
        raise QmpError(_HAS_TO_BE_RESET) from error


@table.command("system_reset")
def system_reset(call: Call) -> None:
    """Reset the machine; what has waited for its guest to let go of it is unplugged."""
    emulated = call.emulated
    insist(emulated.machine, emulated.reset)
    if not emulated.resets:
        return  # it was shut down instead
    for device in emulated.devices.complete_unplugs():
        announce_deleted(call, device.id, device.path)


@table.command("system_powerdown")
def system_powerdown(call: Call) -> None:
    """Press the power button, which no guest is there to notice."""
    call.emulated.announce("POWERDOWN")


@table.command("system_wakeup")
def system_wakeup(call: Call) -> None:
    """Wake a suspended guest."""
    machine = call.emulated.machine
    if machine.run_state is not RunState.SUSPENDED:
        raise QmpError("Unable to wake up: guest is not in suspended state")
    machine.set_run_state(RunState.RUNNING)
    call.emulated.announce("WAKEUP")


@table.command("quit", locked=False)
def end(call: Call) -> None:
    """End the process, whatever the machine is doing."""
    call.emulated.end("host-qmp-quit")


@table.command("x-exit-preconfig")
def exit_preconfig(call: Call) -> None:
    """Go on to the machine's initialization."""
    emulated = call.emulated
    if not emulated.preconfig:
        raise QmpError("The command is permitted only before machine initialization")
    emulated.preconfig = False
    emulated.leave_preconfig()


@table.command("set-action")
def set_action(call: Call) -> None:
    """Say what is to be done when a guest reboots, panics, ..."""
    call.emulated.actions.update(call.arguments)


@table.command("watchdog-set-action")
def watchdog_set_action(call: Call) -> None:
    """Say what a watchdog is to do."""
    call.emulated.actions["watchdog"] = call.arguments["action"]


@table.command("inject-nmi")
def inject_nmi(call: Call) -> None:
    """Interrupt the CPUs, which nobody notices."""


@table.command("query-current-machine")
def query_current_machine(call: Call) -> Any:
    """Say whether the guest could wake up."""
    return {"wakeup-suspend-support": True}


def announce_deleted(call: Call, device_id: str, path: str) -> None:
    """Tell that a device is gone."""
    data = {"path": path} | ({"device": device_id} if device_id else {})
    call.emulated.announce("DEVICE_DELETED", data)


def insist(machine: Machine, change: Any) -> None:
    """Carry a change out; what handlers raise is logged, as the machine has changed all the same."""
    try:
        change()
    except (StartRefusedError, InvalidTransitionError):
        raise
    except Exception as error:  # noqa: BLE001 - of handlers and devices; QEMU's commands do not fail because of them
        _log.error("a change of the machine failed in part", machine=machine.name, error=repr(error))


_log = get_logger("vfio_migration.emulator.commands")
