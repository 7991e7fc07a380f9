"""The human monitor, as far as it is asked by way of QMP (QEMU's `monitor/hmp-cmds.c`); lines end in CR LF."""

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from vfio_migration.emulator.command_line.keyvals import parse_keyvals, parse_size, parse_switch
from vfio_migration.emulator.commands import devices, qom, run_states
from vfio_migration.emulator.commands.command import Call, CommandTable
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.migrating.parameters import PARAMETERS
from vfio_migration.emulator.migrating.query import info_migrate
from vmstate import RunState

table = CommandTable()
_END = "\r\n"
_MIB = 1024 * 1024
_Line = Callable[[Call, Sequence[str]], str | None]
_EVERYTHING = "-a"
_SIZES = ("max-bandwidth", "avail-switchover-bandwidth", "xbzrle-cache-size", "max-postcopy-bandwidth")
_IN_MIB = ("max-bandwidth", "avail-switchover-bandwidth", "max-postcopy-bandwidth")


@table.command("human-monitor-command", locked=False)
def human_monitor_command(call: Call) -> Any:
    """Carry out a line of the human monitor, and give what it prints."""
    line = call.arguments["command-line"].strip()
    if not line:
        return ""
    name, _, rest = line.partition(" ")
    try:
        words = shlex.split(rest)
    except ValueError:
        words = rest.split()
    if name == "info":
        return _info(call, words)
    run = _COMMANDS.get(name)
    if run is None:
        return f"unknown command: '{name}'{_END}"
    try:
        return _in_turn(call, run, words) or ""
    except QmpError as error:
        return "Error: " + str(error).replace("\n", _END) + _END


def _in_turn(call: Call, run: _Line, words: Sequence[str]) -> str | None:
    if run in (_migrate, _migrate_cancel, _quit, _migrate_incoming):
        return run(call, words)
    with call.emulated.machine.big_lock:
        return run(call, words)


def _info(call: Call, words: Sequence[str]) -> str:
    what = words[0] if words else ""
    show = _INFO.get(what)
    if show is None:
        return _help(call, ["info"]) if not what else f"unknown command: 'info {what}'{_END}"
    with call.emulated.machine.big_lock:
        return show(call, words[1:]) or ""


# info ...


def _info_status(call: Call, words: Sequence[str]) -> str:
    state = call.emulated.machine.run_state
    running = state is RunState.RUNNING
    why = "" if running or state is RunState.PAUSED else f" ({state})"
    return f"VM status: {'running' if running else 'paused'}{why}{_END}"


def _info_version(call: Call, words: Sequence[str]) -> str:
    version = call.emulated.profile.version
    numbers = version["qemu"]
    return f"{numbers['major']}.{numbers['minor']}.{numbers['micro']}{version['package']}{_END}"


def _info_name(call: Call, words: Sequence[str]) -> str:
    name = call.emulated.identity.name
    return "" if name is None else f"{name}{_END}"


def _info_uuid(call: Call, words: Sequence[str]) -> str:
    return f"{call.emulated.identity.uuid}{_END}"


def _info_qtree(call: Call, words: Sequence[str]) -> str:
    return call.emulated.board.qtree_text()


def _info_pci(call: Call, words: Sequence[str]) -> str:
    return call.emulated.board.pci_text()


def _info_migrate(call: Call, words: Sequence[str]) -> str:
    return info_migrate(call.emulated.migrations, everything=_EVERYTHING in words)


def _info_capabilities(call: Call, words: Sequence[str]) -> str:
    capabilities = call.emulated.migrations.capabilities
    return "".join(f"{name}: {'on' if state else 'off'}{_END}" for name, state in capabilities.items())


def _info_parameters(call: Call, words: Sequence[str]) -> str:
    values = call.emulated.migrations.parameters
    lines = []
    for each in PARAMETERS:
        value = values[each.name]
        if each.unit is None or value is None:
            continue
        lines.append(f"{each.name}:{_shown(each.name, value)}{each.unit}{_END}")
    return "".join(lines)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return " on" if value else " off"
    if name.startswith("tls-"):
        return f" '{value}'"
    if isinstance(value, list | tuple):
        return "".join(f" {each}" for each in value)
    return f" {value}"


def _info_kvm(call: Call, words: Sequence[str]) -> str:
    return f"kvm support: {'enabled' if call.emulated.identity.accelerator == 'kvm' else 'disabled'}{_END}"


def _info_cpus(call: Call, words: Sequence[str]) -> str:
    identity = call.emulated.identity
    threads = identity.thread_ids or [0] * identity.cpus
    return "".join(f"{'*' if not n else ' '} CPU #{n}: thread_id={thread}{_END}" for n, thread in enumerate(threads))


def _info_balloon(call: Call, words: Sequence[str]) -> str:
    board = call.emulated.board
    if not any(board.is_a(each.type, "virtio-balloon-device") for each in board.devices()):
        return f"Error: No balloon device has been activated{_END}"
    return f"balloon: actual={call.emulated.identity.memory // _MIB}{_END}"


# Commands:


def _stop(call: Call, words: Sequence[str]) -> None:
    run_states.stop(_with(call))


def _cont(call: Call, words: Sequence[str]) -> None:
    run_states.cont(_with(call))


def _reset(call: Call, words: Sequence[str]) -> None:
    run_states.system_reset(_with(call))


def _powerdown(call: Call, words: Sequence[str]) -> None:
    run_states.system_powerdown(_with(call))


def _wakeup(call: Call, words: Sequence[str]) -> None:
    run_states.system_wakeup(_with(call))


def _quit(call: Call, words: Sequence[str]) -> str | None:
    if words:
        return f'quit: extraneous characters at the end of line{_END}Try "help quit" for more information{_END}'
    run_states.end(_with(call))
    return None


def _migrate(call: Call, words: Sequence[str]) -> None:
    resume = "-r" in words
    uris = [word for word in words if not word.startswith("-")]
    if not uris:
        raise QmpError("migrate: string expected")
    call.emulated.migrations.migrate({"uri": uris[0], "resume": resume})


def _migrate_incoming(call: Call, words: Sequence[str]) -> None:
    if not words:
        raise QmpError("migrate_incoming: string expected")
    call.emulated.migrations.await_incoming({"uri": words[0]})


def _migrate_cancel(call: Call, words: Sequence[str]) -> None:
    call.emulated.migrations.cancel()


def _migrate_continue(call: Call, words: Sequence[str]) -> None:
    call.emulated.migrations.continue_(words[0] if words else "")


def _set_capability(call: Call, words: Sequence[str]) -> None:
    name, state = _two(words)
    if name not in call.emulated.migrations.capabilities:
        raise QmpError(f"Parameter 'MigrationCapability' does not accept value '{name}'")
    call.emulated.migrations.set_capabilities({name: parse_switch(state, "state")})


def _set_parameter(call: Call, words: Sequence[str]) -> None:
    name, text = _two(words)
    known = {each.name: each.default for each in PARAMETERS}
    if name not in known:
        raise QmpError(f"Parameter 'MigrationParameter' does not accept value '{name}'")
    value: Any = text
    if isinstance(known[name], bool):
        value = parse_switch(text, name)
    elif isinstance(known[name], int):
        value = parse_size(text, name, unit=_MIB if name in _IN_MIB else 1)
    call.emulated.migrations.set_parameters({name: value})


def _device_add(call: Call, words: Sequence[str]) -> None:
    devices.plug(_with(call, parse_keyvals(words[0] if words else "", "driver")), typed=False)


def _device_del(call: Call, words: Sequence[str]) -> None:
    devices.device_del(_with(call, {"id": words[0] if words else ""}))


def _qom_set(call: Call, words: Sequence[str]) -> None:
    path, name, value = (*words, "", "", "")[:3]
    qom.qom_set(_with(call, {"path": path, "property": name, "value": value}))


def _qom_get(call: Call, words: Sequence[str]) -> str:
    path, name = _two(words)
    value = qom.qom_get(_with(call, {"path": path, "property": name}))
    return (
        f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    ) + _END


def _qom_list(call: Call, words: Sequence[str]) -> str:
    listed = qom.qom_list(_with(call, {"path": words[0] if words else "/"}))
    return "".join(f"{each['name']} ({each['type']}){_END}" for each in listed)


def _help(call: Call, words: Sequence[str]) -> str:
    """Give the recorded lines of help: of one command, or of all."""
    reply = call.emulated.profile.answer("human-monitor-command", {"command-line": " ".join(["help", *words])})
    return str(reply["return"]) if reply is not None and "return" in reply else ""


def _with(call: Call, arguments: Any = None) -> Call:
    return Call(call.emulated, call.session, arguments or {})


def _two(words: Sequence[str]) -> tuple[str, str]:
    first, second = (*words, "", "")[:2]
    return first, second


_INFO: dict[str, _Line] = {
    "status": _info_status,
    "version": _info_version,
    "name": _info_name,
    "uuid": _info_uuid,
    "qtree": _info_qtree,
    "pci": _info_pci,
    "migrate": _info_migrate,
    "migrate_capabilities": _info_capabilities,
    "migrate_parameters": _info_parameters,
    "kvm": _info_kvm,
    "cpus": _info_cpus,
    "balloon": _info_balloon,
}
_COMMANDS: dict[str, _Line] = {
    "stop": _stop,
    "s": _stop,
    "cont": _cont,
    "c": _cont,
    "system_reset": _reset,
    "system_powerdown": _powerdown,
    "system_wakeup": _wakeup,
    "quit": _quit,
    "q": _quit,
    "migrate": _migrate,
    "migrate_incoming": _migrate_incoming,
    "migrate_cancel": _migrate_cancel,
    "migrate_continue": _migrate_continue,
    "migrate_set_capability": _set_capability,
    "migrate_set_parameter": _set_parameter,
    "device_add": _device_add,
    "device_del": _device_del,
    "qom-set": _qom_set,
    "qom-get": _qom_get,
    "qom-list": _qom_list,
    "help": _help,
    "?": _help,
}
