"""What QEMU answers about screens, keys, memory, clocks and jobs where there is no guest and no display."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from vfio_migration.emulator.commands.command import Call, CommandTable
from vfio_migration.emulator.commands.unsupported import unsupported
from vfio_migration.emulator.errors import QmpError

table = CommandTable()
_GONE = "DeviceNotFound"
_INACTIVE = "DeviceNotActive"
_NO_SPICE = ("SPICE is not in use", _INACTIVE)
_NO_NBD = ("NBD server not running",)
_NO_SUCH_FILE = "No such file or directory"
_CALC_TIME_MS = (50, 60_000)
# Commands that are refused whatever they are told, with QEMU's words (and class, where it is no GenericError).
_REFUSED: Mapping[str, tuple[str, ...]] = {
    "change-vnc-password": ("No VNC display is present",),
    "display-update": ("Can not find vnc display",),
    "x-colo-lost-heartbeat": ("VM is not in COLO mode",),
    "nbd-server-stop": _NO_NBD,
    "nbd-server-add": _NO_NBD,
    "nbd-server-remove": _NO_NBD,
    "replay-break": ("setting the breakpoint is allowed only in play mode",),
    "replay-delete-break": ("replay breakpoints are allowed only in play mode",),
    "replay-seek": ("replay seeking is allowed only in play mode",),
    "dumpdtb": ("This machine doesn't have an FDT",),
    "set-vcpu-dirty-limit": ("dirty page limit feature requires KVM with accelerator property 'dirty-ring-size' set'",),
    "query-firmware-log": ("firmware log buffer not found",),
    "query-s390x-cpu-polarization": ("CPU polarization is not supported on this target",),
    "query-hv-balloon-status-report": ("no hv-balloon device present",),
    "query-cpu-model-comparison": ("CPU model comparison is not supported on this target",),
    "query-cpu-model-baseline": ("CPU model baseline is not supported on this target",),
    "job-dismiss": ("Job not found",),
    "job-cancel": ("Job not found",),
    "job-pause": ("Job not found",),
    "job-resume": ("Job not found",),
    "job-complete": ("Job not found",),
    "job-finalize": ("Job not found",),
}
# Commands that succeed and change nothing that could be seen.
_DONE = (
    "send-key", "rtc-reset-reinjection", "xen-set-global-dirty-log", "cancel-vcpu-dirty-limit", "display-reload",
    "announce-self",
)  # fmt: skip
_JOBS = ("block-job-cancel", "block-job-pause", "block-job-resume", "block-job-complete", "block-job-set-speed")


def _refuse(words: tuple[str, ...]) -> Callable[[Call], Any]:
    def refuse(call: Call) -> None:
        raise QmpError(*words)

    return refuse


def _do_nothing(call: Call) -> None:
    pass


for _name, _words in _REFUSED.items():
    table.command(_name)(_refuse(_words))
for _name in _DONE:
    table.command(_name)(_do_nothing)


@table.command("balloon")
def balloon(call: Call) -> None:
    """Ask a balloon to grow or shrink, which waits for a guest; raises QmpError without one, or of no size."""
    board = call.emulated.board
    if not any(board.is_a(each.type, "virtio-balloon-device") for each in board.devices()):
        raise QmpError("No balloon device has been activated", _INACTIVE)
    if call.arguments["value"] <= 0:
        raise QmpError("Parameter 'value' expects a size")


@table.command("set-numa-node")
def set_numa_node(call: Call) -> None:
    """Note a node of memory, which nothing here depends on, as long as the machine is not made."""
    if not call.emulated.preconfig:
        raise QmpError("The command is permitted only before the machine has been created")


@table.command("screendump")
def screendump(call: Call) -> None:
    """Refuse: there is no screen."""
    device = call.arguments.get("device")
    if device is not None:
        raise QmpError(f"Device '{device}' not found", _GONE)
    raise QmpError("There is no console to take a screendump from")


@table.command("input-send-event")
def input_send_event(call: Call) -> None:
    """Send input, which nobody notices; raises QmpError for the display of a device, as there is none."""
    device = call.arguments.get("device")
    if device is not None:
        raise QmpError(f"Device '{device}' not found", _GONE)


@table.command("set_password")
def set_password(call: Call) -> None:
    """Refuse: there is no display to look at."""
    raise QmpError(*_NO_SPICE) if call.arguments["protocol"] == "spice" else QmpError("No VNC display is present")


@table.command("expire_password")
def expire_password(call: Call) -> None:
    """Refuse: there is no display to look at."""
    if call.arguments["protocol"] == "spice":
        raise QmpError(*_NO_SPICE)
    raise QmpError("Could not set password expire time")


@table.command("client_migrate_info")
def client_migrate_info(call: Call) -> None:
    """Refuse: nobody looks at a display."""
    if call.arguments["protocol"] != "spice":
        raise QmpError("Parameter 'protocol' expects 'spice'")
    raise QmpError(*_NO_SPICE)


@table.command("memsave")
def memsave(call: Call) -> None:
    """Save memory as a CPU sees it, which is zeros."""
    if call.arguments.get("cpu-index", 0) not in range(call.emulated.identity.cpus):
        raise QmpError("Parameter 'cpu-index' expects a CPU number")
    _save_zeros(call)


@table.command("pmemsave")
def pmemsave(call: Call) -> None:
    """Save memory, which is zeros."""
    _save_zeros(call)


@table.command("dump-guest-memory")
def dump_guest_memory(call: Call) -> None:
    """Say what is wrong with a dump; a good one is not made here."""
    arguments = call.arguments
    kind, _, where = arguments["protocol"].partition(":")
    if arguments["paging"] and arguments.get("format", "elf") != "elf":
        raise QmpError("kdump-compressed format doesn't support paging or filter")
    for one, other in (("begin", "length"), ("length", "begin")):
        if one in arguments and other not in arguments:
            raise QmpError(f"Parameter '{other}' is missing")
    if kind == "fd":
        raise QmpError(f"File descriptor named '{where}' has not been found")
    if kind != "file":
        raise QmpError("parameter 'protocol' must start with 'file:' or 'fd:'")
    _check_folder(where, f"Could not create '{where}'")
    raise unsupported("dump-guest-memory", call.arguments)


@table.command("calc-dirty-rate")
def calc_dirty_rate(call: Call) -> None:
    """Begin to measure what no guest dirties; raises QmpError of a time that QEMU does not take."""
    unit = 1 if call.arguments.get("calc-time-unit") == "millisecond" else 1000
    lowest, highest = _CALC_TIME_MS
    if not lowest <= call.arguments["calc-time"] * unit <= highest:
        raise QmpError(f"Calculation time is out of range [{lowest}ms, {highest}ms].")


@table.command("eject")
@table.command("blockdev-open-tray")
@table.command("blockdev-close-tray")
@table.command("blockdev-remove-medium")
def tray(call: Call) -> None:
    """Refuse: no device here has a tray."""
    name = call.arguments.get("id", call.arguments.get("device", ""))
    if not any(each.id == name for each in call.emulated.board.devices()):
        raise QmpError(f"Device '{name}' not found", _GONE)
    raise QmpError(f"Device '{name}' is not removable")


@table.command("block-stream")
def no_such_node(call: Call) -> None:
    """Refuse a job on a node that there is not; on others there are no jobs here."""
    name = call.arguments["device"]
    if name not in call.emulated.backends.blockdevs:
        raise QmpError(f"Cannot find device='{name}' nor node-name='{name}'")
    raise unsupported("block-stream", call.arguments)


def _no_job(call: Call) -> None:
    raise QmpError(f"Block job '{call.arguments['device']}' not found", _INACTIVE)


for _name in _JOBS:
    table.command(_name)(_no_job)


@table.command("remove-fd")
def remove_fd(call: Call) -> None:
    """Refuse: there are no sets of descriptors."""
    raise QmpError(f"File descriptor named 'fdset-id:{call.arguments['fdset-id']}' not found")


@table.command("add_client")
def add_client(call: Call) -> None:
    """Refuse a client whose descriptor nobody has passed."""
    raise QmpError(f"File descriptor named '{call.arguments['fdname']}' has not been found")


@table.command("xen-save-devices-state")
def xen_save(call: Call) -> None:
    """Refuse to save without a Xen."""
    name = call.arguments["filename"]
    _check_folder(name, f"Could not create '{name}'")
    raise unsupported("xen-save-devices-state", call.arguments)


@table.command("query-display-options")
def query_display_options(call: Call) -> Any:
    """Say that there is no display."""
    return {"type": "none"}


@table.command("x-query-numa")
def query_numa(call: Call) -> Any:
    """Say that there are no nodes of memory."""
    return {"human-readable-text": "0 nodes\n"}


@table.command("query-acpi-ospm-status")
def query_acpi(call: Call) -> Any:
    """Say what guests have said of CPUs: nothing."""
    cpus = range(call.emulated.identity.cpus)
    return [{"slot": str(each), "slot-type": "CPU", "source": 0, "status": 0} for each in cpus]


@table.command("query-sgx")
def query_sgx(call: Call) -> Any:
    """Refuse: no machine here has enclaves."""
    raise QmpError("No EPC regions defined, SGX not available")


def _save_zeros(call: Call) -> None:
    name = call.arguments["filename"]
    _check_folder(name, f"Could not open '{name}'")
    with open(name, "wb") as file:  # noqa: PTH123 - a path as the client has written it
        file.truncate(call.arguments["size"])


def _check_folder(path: str, failed: str) -> None:
    if not os.path.isdir(os.path.dirname(path) or "."):  # noqa: PTH112, PTH120 - a path as the client has written it
        raise QmpError(f"{failed}: {_NO_SUCH_FILE}")
