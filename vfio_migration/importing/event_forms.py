"""
The forms in which QEMU has written the events that tell of a switchover: from an event's arguments to its fields.

Each is taken apart from its fixed words, found once, so that no line can take more than linear time. A form that one
version had and another has not is told by its words: up to 9.0 `vfio_migration_set_state` ends in `state X` and is
written when the device is there, later ones write `new state X, recover state Y` when they ask for it.
"""

import re
from collections.abc import Callable
from typing import Any

from vfio_migration.device import DeviceState

Fields = dict[str, Any]
Form = Callable[[str], Fields | None]

# Written when a device has come to a state: by QEMU 8.0 to 9.0 as `vfio_migration_set_state`.
DONE = "set_state done"
# An ordinary handler was called; the line says when, not for how long.
MARK = "handler mark"
PROTOCOL_V1 = "v1"


def _state(text: str) -> DeviceState | None:
    return DeviceState.__members__.get(text.strip())


def _of_state(name: str, key: str, text: str) -> Fields | None:
    """Give the fields of a device and a state; a number for a state is of the protocol before QEMU 8.0."""
    state = _state(text)
    if name and state is not None:
        return {"name": name, key: state}
    return {PROTOCOL_V1: True} if name and text.strip().isdigit() else None


def _inside(arguments: str, words: str) -> tuple[str, str]:
    """Give the name in parentheses, and what follows it and these words; nothing if they are not there."""
    if not arguments.startswith("("):
        return "", ""
    name, found, rest = arguments[1:].rpartition(f"){words}")
    return (name, rest) if found else ("", "")


def _set_state(arguments: str) -> Fields | None:
    name, rest = _inside(arguments, " new state ")
    if not name:
        name, rest = _inside(arguments, " state ")
        fields = _of_state(name, "state", rest)
        return fields if fields is None or PROTOCOL_V1 in fields else fields | {DONE: True}
    target, found, recover = rest.partition(", recover state ")
    fields = _of_state(name, "new_state", target)
    if not found or fields is None or _state(recover) is None:
        return None
    return fields | {"recover_state": recover.strip()}


def _set_device_state(arguments: str) -> Fields | None:
    return _of_state(*_keyed(_inside(arguments, " state "), "state"))


def _keyed(found: tuple[str, str], key: str) -> tuple[str, str, str]:
    return found[0], key, found[1]


def _change(arguments: str) -> Fields | None:
    head, _, state = arguments.rpartition(" device state ")
    name, rest = _inside(head, " running ")
    running, _, reason = rest.partition(" reason ")
    fields = _of_state(name, "dev_state", state)
    if fields is None or running not in ("0", "1") or not reason:
        return None
    return fields | {"running": int(running), "reason": reason}


def _named(arguments: str) -> Fields | None:
    name, _ = _inside(f"{arguments}\n", "\n")
    return {"name": name} if name else None


def _returned(arguments: str) -> Fields | None:
    name, ret = _inside(arguments, " ret ")
    return {"name": name} if name and ret.lstrip("-").isdecimal() else _named_v1(arguments)


def _named_v1(arguments: str) -> Fields | None:
    # Before 8.0 this line had no result; without a state beside it, nothing else tells that protocol.
    return _named(arguments) if arguments.endswith(")") else None


def _thread_start(arguments: str) -> Fields | None:
    name, rest = _inside(arguments, " idstr ")
    return {"name": name} if name and rest else None


def _handler(arguments: str) -> Fields | None:
    name, rest = _inside(arguments, " priority ")
    priority, _, kind = rest.partition(" pass ")
    if not name or not priority.lstrip("-").isdecimal() or len(priority) > len("-2147483648"):
        return None
    return {"handler": name, "priority": int(priority), "kind": kind}


def _matching(pattern: str) -> Form:
    """Make a form of a pattern whose parts cannot match each other's text."""
    compiled = re.compile(pattern, re.ASCII)

    def form(arguments: str) -> Fields | None:
        match = compiled.fullmatch(arguments)
        return None if match is None else match.groupdict()

    return form


def _notified(arguments: str) -> Fields | None:
    fields = _NOTIFY(arguments)
    return None if fields is None else fields | {"running": int(fields["running"])}


_NOTIFY = _matching(r"running (?P<running>[01]) reason \d{1,9} \((?P<reason_str>[^()]+)\)")


def _number(text: str) -> int | None:
    """Read a number as QEMU prints sizes: up to 8.0 with 0x, later without."""
    digits = text.strip()
    base = 16 if digits[:2] == "0x" else 10
    if not (digits.isascii() and digits.isalnum() and len(digits) <= _LONGEST_NUMBER):
        return None
    try:
        return int(digits, base)
    except ValueError:
        return None


def _sized(words: str) -> Form:
    """Make a form of a device and a size: what follows these words, up to the next word or comma."""

    def form(arguments: str) -> Fields | None:
        name, rest = _inside(arguments, " ")
        _, found, after = rest.partition(words)
        size = _number(after.partition(",")[0].strip().partition(" ")[0]) if found else None
        # Under another key than in changes of state: threads of their own write these, in no order with the others.
        return None if size is None or not name else {"device": name, "size": size}

    return form


def _loading(arguments: str) -> Fields | None:
    name, _ = _inside(f"{arguments}\n", "\n")
    return {"device": name} if name else None


def _packet(arguments: str) -> Fields | None:
    name, index = _inside(arguments, " idx ")
    number = _number(index)
    return {"device": name, "index": number} if name and number is not None else None


def _sent(arguments: str) -> Fields | None:
    name, rest = _inside(arguments, " channel ")
    channel, _, size = rest.partition(" bytes ")
    channel_number, size_number = _number(channel), _number(size)
    if not name or channel_number is None or size_number is None:
        return None
    return {"device": name, "channel": channel_number, "size": size_number}


def _channel(arguments: str) -> Fields | None:
    number = _number(arguments)
    return None if number is None else {"channel": number}


def _numbers(**patterns: str) -> Form:
    matching = _matching(" ".join(rf"{words} (?P<{name}>-?\d{{1,20}})" for name, words in patterns.items()))

    def form(arguments: str) -> Fields | None:
        fields = matching(arguments)
        return None if fields is None else {name: int(value) for name, value in fields.items()}

    return form


def _transferred(arguments: str) -> Fields | None:
    without = _TRANSFERRED(arguments)
    return without if without is not None else _TRANSFERRED_9(arguments)


_LONGEST_NUMBER = len("0xffffffffffffffff") + 2
_RATE = {"transferred": "transferred", "time_ms": "time_spent", "bandwidth": "bandwidth"}  # bytes per ms
_TRANSFERRED = _numbers(**_RATE, max_size="max_size")
_TRANSFERRED_9 = _numbers(**_RATE, switchover_bandwidth="(?:avail|switchover)_bw", max_size="max_size")


def _anything(_: str) -> Fields | None:
    return {}


FORMS: dict[str, Form] = {
    "vfio_migration_set_state": _set_state,
    "vfio_migration_set_device_state": _set_device_state,
    "vfio_vmstate_change": _change,
    "vfio_vmstate_change_prepare": _change,
    "vfio_save_complete_precopy_start": _named,
    "vfio_save_complete_precopy": _returned,
    "vfio_save_complete_precopy_thread_start": _thread_start,
    "vfio_save_complete_precopy_thread_end": _returned,
    "vfio_save_block": _sized("data_size "),
    "vfio_query_stop_copy_size": _sized("stopcopy size "),
    "vfio_state_pending": _sized("stopcopy size "),
    "vfio_state_pending_exact": _sized("stopcopy size "),
    "vfio_load_state": _sized("data "),
    "vfio_load_state_device_data": _sized("size "),
    **{
        f"vfio_load_{what}_{end}": _loading
        for what in ("bufs_thread", "device_config_state")
        for end in ("start", "end")
    },
    **{f"vfio_load_state_device_buffer_load_{end}": _packet for end in ("start", "end")},
    "multifd_send_end": _sent,
    "multifd_send_thread_start": _channel,
    "migrate_transferred": _transferred,
    "migration_bitmap_sync_end": _numbers(dirty_pages="dirty_pages"),
    "migrate_set_state": _matching(r"new state (?P<new_state>[\w-]+)"),
    "runstate_set": _matching(
        r"current_run_state \d{1,9} \((?P<current_state_str>[^()]+)\) new_state \d{1,9} \((?P<new_state_str>[^()]+)\)"
    ),
    "vm_state_notify": _notified,
    "vmstate_downtime_checkpoint": _matching(r"(?P<checkpoint>[\w-]+)"),
    "migration_completion_vm_stop": _matching(r"ret (?P<ret>-?\d{1,18})"),
    "migration_call_notifiers": _anything,
    "handler_begin": _handler,
    "handler_end": _handler,
    "virtio_set_status": _anything,
    "virtio_rng_vm_state_change": _anything,
}
MARKS = frozenset(name for name in FORMS if name.startswith("virtio_"))
# Known, with nothing in them that an import has a use for.
PASSED_OVER = frozenset(
    {
        *(f"vfio_{what}_{end}" for what in ("arc", "change", "join") for end in ("begin", "end")),
        *(f"migration_phase_{end}" for end in ("begin", "end")),
        "multifd_send_begin",
        *(f"savevm_section_{end}" for end in ("start", "end")),
        "migration_thread_low_pending",
        "vfio_migration_state_notifier",
        "vfio_vmstate_thread",
    }
)
