"""
Logs in the format of QEMU 11.1's `-trace` with `-msg timestamp=on`: the formats, and the writer.

One table serves the writer and the reader (`vfio_migration.importing.log_reader`). What QEMU prints is a log line's
`TIMESTAMP EVENT ARGUMENTS`; formats of VFIO's events begin with a blank of their own, so that two stand there.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from vfio_migration.errors import ScenarioError
from vmstate import TraceEvent

# QEMU's own: arguments by the names of our trace events' fields.
QEMU_FORMATS = {
    "runstate_set": (
        "current_run_state %(current_state)d (%(current_state_str)s) new_state %(new_state)d (%(new_state_str)s)"
    ),
    "vm_state_notify": "running %(running)d reason %(reason)d (%(reason_str)s)",
    "virtio_set_status": "vdev %(vdev)s val %(val)d",
    "virtio_rng_vm_state_change": "rng %(rng)s: state change to running %(running)d state %(state)d",
    "migrate_set_state": "new state %(new_state)s",
    "migration_call_notifiers": "type=%(type)d",
    "migration_completion_vm_stop": "ret %(ret)d",
    "migration_thread_low_pending": "%(pending)d",
    "vmstate_downtime_checkpoint": "%(checkpoint)s",
    "savevm_section_start": "%(id)s, section_id %(section_id)d",
    "savevm_section_end": "%(id)s, section_id %(section_id)d -> %(ret)d",
    "vfio_migration_set_state": " (%(name)s) new state %(new_state)s, recover state %(recover_state)s",
    "vfio_migration_set_device_state": " (%(name)s) state %(state)s",
    "vfio_migration_state_notifier": " (%(name)s) state %(state)d",
    "vfio_vmstate_change": " (%(name)s) running %(running)d reason %(reason)s device state %(dev_state)s",
    "vfio_vmstate_change_prepare": " (%(name)s) running %(running)d reason %(reason)s device state %(dev_state)s",
    "vfio_save_complete_precopy_start": " (%(name)s)",
    "vfio_save_complete_precopy": " (%(name)s) ret %(ret)d",
    "vfio_save_complete_precopy_thread_start": " (%(name)s) idstr %(idstr)s instance %(instance)d",
    "vfio_save_complete_precopy_thread_end": " (%(name)s) ret %(ret)d",
    "vfio_save_block": " (%(name)s) data_size %(data_size)d",
    "vfio_load_state_device_data": " (%(name)s) size %(size)d ret %(ret)d",
    "vfio_load_device_config_state_start": " (%(name)s)",
    "vfio_load_device_config_state_end": " (%(name)s)",
    "vfio_load_bufs_thread_start": " (%(name)s)",
    "vfio_load_bufs_thread_end": " (%(name)s)",
    "vfio_load_state_device_buffer_load_start": " (%(name)s) idx %(idx)d",
    "vfio_load_state_device_buffer_load_end": " (%(name)s) idx %(idx)d",
}
# What QEMU's formats ask for and not everybody says; the id of a device's section is the device's, there is one of it.
_SECTION = {"instance": 0}
# Events that QEMU does not have, in its style; scripts pass over lines that they do not know.
OUR_FORMATS = {
    "handler_begin": "(%(handler)s) priority %(priority)d pass %(kind)s",
    "handler_end": "(%(handler)s) priority %(priority)d pass %(kind)s",
    "multifd_send_begin": "(%(name)s) channel %(channel)d bytes %(bytes)d",
    "multifd_send_end": "(%(name)s) channel %(channel)d bytes %(bytes)d",
}
FORMATS = QEMU_FORMATS | OUR_FORMATS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_timestamp(time_ns: int) -> str:
    """
    Give a time as `-msg timestamp=on` prints it, to the microsecond; 0 ns is the beginning of 1970.

    Raises:
        ScenarioError: it lies beyond the year 9999, which QEMU's format cannot say.

    """
    try:
        moment = _EPOCH + timedelta(microseconds=time_ns // 1000)
    except OverflowError:
        raise ScenarioError("times beyond the year 9999 cannot be written as QEMU's log does: shorten them") from None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def format_event(event: TraceEvent) -> str:
    """Give an event as a line of QEMU's log, without the line's end; raises as `format_timestamp`."""
    template = FORMATS.get(event.name)
    if template is not None:
        arguments = template % (_SECTION | {"idstr": event.fields.get("name")} | dict(event.fields))
    else:
        fields = dict(event.fields)
        of = f"({fields.pop('name')}) " if "name" in fields else ""
        arguments = of + " ".join(f"{key} {value}" for key, value in fields.items() if value != "")
    # One event is one line, whatever stands in an id or in an error's text.
    return " ".join(f"{format_timestamp(event.time_ns)} {event.name} {arguments}".splitlines())


def format_log(events: Iterable[TraceEvent], machine: str) -> str:
    """
    Give the log of one machine of a recorded run, in order of time.

    Threads may have been recorded in another order than they took the time. Raises as `format_timestamp`.
    """
    of_machine = sorted((event for event in events if event.machine == machine), key=lambda event: event.time_ns)
    return "".join(f"{format_event(event)}\n" for event in of_machine)


def log_files(prefix: str, modes: Sequence[str]) -> dict[tuple[str, str], str]:
    """Name the files for each mode and machine of a run; with several modes, the mode is in the name."""
    return {
        (mode, machine): f"{prefix}-{mode}-{side}.log" if len(modes) > 1 else f"{prefix}-{side}.log"
        for mode in modes
        for machine, side in (("source", "src"), ("destination", "dst"))
    }
