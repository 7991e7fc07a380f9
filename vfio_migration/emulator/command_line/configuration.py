"""What a command line comes to: the machine, its devices, its monitors, and how the process is to behave."""

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from vfio_migration.emulator.command_line.chardevs import MonitorSocket, chardev_of_device, monitor_socket
from vfio_migration.emulator.command_line.keyvals import parse_keyvals, parse_size, parse_switch
from vfio_migration.emulator.command_line.options import Option, split_options
from vfio_migration.emulator.command_line.topology import Topology, read_topology
from vfio_migration.emulator.emulated import Backends
from vfio_migration.emulator.errors import QmpError

_MIB = 1024 * 1024
_DEFAULT_MEMORY = 128 * _MIB
_MOST_SLOTS = 256
# What may be done when a guest reboots, is shut down, ... (QAPI's `RebootAction` and its like).
_ACTIONS = {
    "reboot": ("reset", "shutdown"),
    "shutdown": ("poweroff", "pause"),
    "panic": ("pause", "shutdown", "exit-failure", "none"),
    "watchdog": ("reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"),
}
# What QEMU lists for `help`, and the command that says it.
_LISTED = {
    "machine": "query-machines",
    "M": "query-machines",
    "cpu": "query-cpu-definitions",
    "device": "qom-list-types and device-list-properties",
    "object": "qom-list-types",
}
_NO_NODE_NAME = "'node-name' must be specified for the root node"
_KVM = "/dev/kvm"
_ACCELERATORS = ("tcg", "kvm", "qtest", "mshv", "xen")


@dataclass(frozen=True)
class DeviceOption:
    """A `-device`, with the text that the command line had for it, as errors name it."""

    options: dict[str, Any]
    said: str
    typed: bool = False  # in JSON


@dataclass
class Configuration:
    """A command line, read; sizes in bytes."""

    machine: str = "pc"
    machine_options: dict[str, str] = field(default_factory=dict)
    accelerator: str = "tcg"
    cpu: str | None = None
    memory: int = _DEFAULT_MEMORY
    topology: Topology = field(default_factory=Topology)
    defaults: bool = True
    devices: list[DeviceOption] = field(default_factory=list)
    backends: Backends = field(default_factory=Backends)
    monitors: list[MonitorSocket] = field(default_factory=list)
    name: str | None = None
    uuid: str | None = None
    incoming: str | None = None
    autostart: bool = True
    preconfig: bool = False
    only_migratable: bool = False
    actions: dict[str, str] = field(default_factory=dict)  # in place of the usual ones
    daemonize: bool = False
    pidfile: str | None = None
    timestamps: bool = False
    log_file: str | None = None
    trace: list[str] = field(default_factory=list)  # patterns of events
    ignored: list[str] = field(default_factory=list)
    help: str | None = None  # "-help" or "-version", if that is all that was asked


class BadOptionError(QmpError):
    """An option cannot be used; the text begins with the option as it was given."""


class BadMachineError(QmpError):
    """What options say of the machine cannot be; QEMU finds out when it makes it, and names no option."""


@contextmanager
def _of_the_machine() -> Iterator[None]:
    try:
        yield
    except QmpError as error:
        raise BadMachineError(str(error)) from error


def _check_slots(size: int, slots: int, most: int, *, said: bool) -> None:
    """See that there may be as much memory as is to be plugged in later (QEMU's `machine_set_mem`)."""
    if said and most < size:
        raise QmpError(
            f"invalid value of maxmem: maximum memory size ({most:#x}) must be at least the initial memory size "
            f"({size:#x})"
        )
    if slots and not said:
        raise QmpError("slots specified but no max-size")
    if slots and most == size:
        raise QmpError(
            f"invalid value of maxmem: memory slots were specified but maximum memory size ({most:#x}) is equal to the "
            f"initial memory size ({size:#x})"
        )
    if slots > _MOST_SLOTS:
        raise QmpError(f"unsupported amount of memory slots: {slots}")


def read_command_line(words: Sequence[str]) -> Configuration:
    """
    Read a command line.

    Raises:
        QmpError: it cannot be used; the text is what QEMU would print, but for the program's name.

    """
    reader = _Reader()
    for option in split_options(words):
        try:
            reader.take(option)
        except BadMachineError:
            raise
        except QmpError as error:
            raise BadOptionError(f"{option}: {error}") from error
    return reader.finish()


class _Reader:
    """Takes options one after another; monitors are known once all character devices are."""

    def __init__(self) -> None:
        self.configuration = Configuration()
        self._monitors: list[tuple[Option, Callable[[], MonitorSocket]]] = []
        self._humans: list[tuple[Option, str]] = []  # human monitors, and the character devices they are to be at
        self._compat = 0
        self._takers: dict[str, Callable[[str], None]] = {
            "machine": self._machine,
            "M": self._machine,
            "accel": self._accel,
            "enable-kvm": lambda _: self._accel("kvm"),
            "cpu": self._cpu,
            "m": self._memory,
            "smp": self._smp,
            "device": self._device,
            "object": self._object,
            "blockdev": self._blockdev,
            "drive": self._drive,
            "netdev": self._netdev,
            "chardev": self._chardev,
            "name": self._name,
            "uuid": self._uuid,
            "incoming": self._incoming,
            "msg": self._msg,
            "D": self._log_file,
            "trace": self._trace,
            "d": self._debug,
            "pidfile": self._pidfile,
            "S": lambda _: self._set("autostart", value=False),
            "nodefaults": lambda _: self._set("defaults", value=False),
            "preconfig": lambda _: self._set("preconfig", value=True),
            "only-migratable": lambda _: self._set("only_migratable", value=True),
            "no-shutdown": lambda _: self._action("shutdown=pause"),
            "no-reboot": lambda _: self._action("reboot=shutdown"),
            "action": self._action,
            "watchdog-action": lambda argument: self._action(f"watchdog={argument}"),
            "daemonize": lambda _: self._set("daemonize", value=True),
            "h": lambda _: self._set("help", value="help"),
            "help": lambda _: self._set("help", value="help"),
            "version": lambda _: self._set("help", value="version"),
            "nographic": lambda _: None,
            "no-user-config": lambda _: None,
            "display": lambda _: None,
            "monitor": lambda _: self._human_monitor(),
        }

    def take(self, option: Option) -> None:
        """Take one."""
        if option.name in _LISTED and option.argument.rpartition(",")[2] in ("help", "?"):
            raise QmpError(f"nothing is listed here; a monitor is asked by {_LISTED[option.name]}")
        if option.name in ("qmp", "qmp-pretty"):
            self._qmp(option)
        elif option.name == "mon":
            self._mon(option)
        elif option.name in self._takers:
            self._takers[option.name](option.argument)
        else:
            self.configuration.ignored.append(str(option))

    def finish(self) -> Configuration:
        """Give what it all comes to."""
        configuration = self.configuration
        for option, name in self._humans:
            if name not in configuration.backends.chardevs:
                raise BadOptionError(f'{option}: chardev "{name}" not found')
        for option, make in self._monitors:
            try:
                configuration.monitors.append(make())
            except QmpError as error:
                raise BadOptionError(f"{option}: {error}") from error
        for name, each in configuration.backends.objects.items():
            if each.get("qom-type") == "monitor-qmp":
                chardev = str(each.get("chardev", ""))
                configuration.monitors.append(self._of_chardev(chardev, pretty=each.get("pretty") in (True, "on")))
                each["id"] = name
        return configuration

    def _set(self, name: str, *, value: Any) -> None:
        setattr(self.configuration, name, value)

    def _machine(self, argument: str) -> None:
        values = {key: str(value) for key, value in parse_keyvals(argument, "type").items()}
        configuration = self.configuration
        configuration.machine = values.pop("type", configuration.machine)
        if "accel" in values:
            self._accel(values.pop("accel"))
        configuration.machine_options.update(values)

    def _accel(self, argument: str) -> None:
        wanted = str(parse_keyvals(argument, "accel").get("accel", "")).split(":")
        known = [each for each in wanted if each in _ACCELERATORS]
        if not known:
            raise QmpError(f"invalid accelerator {wanted[0]}")
        # Of several QEMU takes the first that works. libvirt does not believe an emulator that says it has no KVM where
        # there is one, and would ask it again each time.
        self.configuration.accelerator = next((each for each in known if _works(each)), known[0])

    def _cpu(self, argument: str) -> None:
        self.configuration.cpu = argument.partition(",")[0]

    def _memory(self, argument: str) -> None:
        values = parse_keyvals(argument, "size")
        configuration = self.configuration
        if "size" in values:
            configuration.memory = parse_size(values["size"], "size", unit=_MIB) or _DEFAULT_MEMORY
        slots, most = parse_size(values.get("slots", 0), "slots"), parse_size(values.get("maxmem", 0), "maxmem")
        with _of_the_machine():
            _check_slots(configuration.memory, slots, most, said="maxmem" in values)

    def _smp(self, argument: str) -> None:
        with _of_the_machine():
            self.configuration.topology = read_topology(parse_keyvals(argument, "cpus"))

    def _device(self, argument: str) -> None:
        options = parse_keyvals(argument, "driver")
        self.configuration.devices.append(DeviceOption(options, f"-device {argument}", argument.startswith("{")))

    def _object(self, argument: str) -> None:
        self._keep(self.configuration.backends.objects, parse_keyvals(argument, "qom-type"), "id", "object")

    def _blockdev(self, argument: str) -> None:
        self._keep(self.configuration.backends.blockdevs, parse_keyvals(argument, "driver"), "node-name", "node")

    def _drive(self, argument: str) -> None:
        values = parse_keyvals(argument, "file")
        if values.get("if", "none") == "none" and "id" in values:
            self._keep(
                self.configuration.backends.blockdevs, {"driver": values.get("format", "raw"), **values}, "id", "drive"
            )
        else:
            self.configuration.ignored.append(f"-drive {argument}")

    def _netdev(self, argument: str) -> None:
        self._keep(self.configuration.backends.netdevs, parse_keyvals(argument, "type"), "id", "netdev")

    def _chardev(self, argument: str) -> None:
        self._keep(self.configuration.backends.chardevs, parse_keyvals(argument, "backend"), "id", "chardev")

    @staticmethod
    def _keep(where: dict[str, dict[str, Any]], values: dict[str, Any], key: str, kind: str) -> None:
        name, node = values.get(key), key == "node-name"
        if not isinstance(name, str) or not name:
            raise QmpError(_NO_NODE_NAME if node else f"Parameter '{key}' is missing")
        if name in where:
            raise QmpError(f"Duplicate nodes with {key}='{name}'" if node else f"Duplicate ID '{name}' for {kind}")
        where[name] = values

    def _name(self, argument: str) -> None:
        values = parse_keyvals(argument, "guest")
        if "guest" in values:
            self.configuration.name = str(values["guest"])

    def _uuid(self, argument: str) -> None:
        try:
            self.configuration.uuid = str(uuid.UUID(argument))
        except ValueError as error:
            raise QmpError("failed to parse UUID string: wrong format") from error

    def _incoming(self, argument: str) -> None:
        if self.configuration.incoming is not None:
            raise QmpError("-incoming may be given once")
        self.configuration.incoming = argument

    def _action(self, argument: str) -> None:
        for name, value in parse_keyvals(argument).items():
            if name not in _ACTIONS:
                raise QmpError(f"Invalid parameter '{name}'")
            if value not in _ACTIONS[name]:
                raise QmpError(f"Parameter '{name}' does not accept value '{value}'")
            self.configuration.actions[name] = value

    def _msg(self, argument: str) -> None:
        values = parse_keyvals(argument)
        if "timestamp" in values:
            self.configuration.timestamps = parse_switch(values["timestamp"], "timestamp")

    def _log_file(self, argument: str) -> None:
        self.configuration.log_file = argument

    def _pidfile(self, argument: str) -> None:
        self.configuration.pidfile = argument

    def _trace(self, argument: str) -> None:
        values = parse_keyvals(argument, "enable")
        if "enable" in values:
            self.configuration.trace.append(str(values["enable"]))
        if "events" in values:
            self.configuration.trace += _patterns_in(str(values["events"]))

    def _debug(self, argument: str) -> None:
        self.configuration.trace += [
            item.removeprefix("trace:") for item in argument.split(",") if item.startswith("trace:")
        ]

    def _human_monitor(self) -> None:
        self._compat += 1
        self.configuration.ignored.append("-monitor")

    def _qmp(self, option: Option) -> None:
        label = f"compat_monitor{self._compat}"
        self._compat += 1
        chardev = chardev_of_device(option.argument)
        pretty = option.name == "qmp-pretty"
        self._monitors.append((option, lambda: monitor_socket(chardev, label, pretty=pretty)))

    def _mon(self, option: Option) -> None:
        values = parse_keyvals(option.argument, "chardev")
        name, pretty = str(values.get("chardev", "")), parse_switch(values.get("pretty", "off"), "pretty")
        if values.get("mode", "readline") != "control":
            self.configuration.ignored.append(str(option))
            self._humans.append((option, name))
            return
        self._monitors.append((option, lambda: self._of_chardev(name, pretty=pretty)))

    def _of_chardev(self, name: str, *, pretty: bool) -> MonitorSocket:
        chardev = self.configuration.backends.chardevs.get(name)
        if chardev is None:
            raise QmpError(f'chardev "{name}" not found')
        return monitor_socket(chardev, name, pretty=pretty)


def _works(accelerator: str) -> bool:
    """Tell whether a QEMU could use an accelerator on this host (`accel_init_machine`)."""
    if accelerator == "kvm":
        return os.access(_KVM, os.R_OK | os.W_OK)
    return accelerator in ("tcg", "qtest")


def _patterns_in(path: str) -> list[str]:
    """Give the patterns of events in a file, a line each."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - as the user has written it
            lines = [line.strip() for line in file]
    except OSError as error:
        raise QmpError(f"Could not open '{path}': {error.strerror}") from error
    return [line for line in lines if line and not line.startswith("#")]
