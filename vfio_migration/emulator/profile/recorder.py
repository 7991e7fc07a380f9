"""Records a profile: asks an installed QEMU all that clients ask, and writes it into one file."""

import json
import lzma
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vfio_migration.emulator.errors import RecordingError
from vfio_migration.emulator.profile.recorded_boards import record_boards
from vfio_migration.emulator.profile.recorded_devices import DeviceRecorder
from vfio_migration.emulator.profile.recorded_qemu import RecordedQemu

FORMAT = 1
Log = Callable[[str], None]
_PLAIN = (  # commands whose reply needs no machine
    "query-version",
    "query-target",
    "query-accelerators",
    "query-machines",
    "query-cpu-definitions",
    "query-command-line-options",
    "query-sev",
    "query-sev-capabilities",
    "query-sgx",
    "query-sgx-capabilities",
    "query-gic-capabilities",
    "query-tpm-models",
    "query-tpm-types",
    "query-tpm",
    "query-kvm",
    "query-commands",
    "query-rx-filter",
    "query-balloon",
    "query-memory-size-summary",
    "query-memory-devices",
    "query-acpi-ospm-status",
    "query-colo-status",
    "query-replay",
    "query-vm-generation-id",
    "query-current-machine",
    "query-audiodevs",
    "query-dump-guest-memory-capability",
    "query-xen-replication-status",
    "query-stats-schemas",
    "query-migrate-capabilities",
    "query-migrate-parameters",
)
_MONITOR = "human-monitor-command"
_EXPANSIONS = ("static", "full")
_UNASKED = "chardev-"  # making one of these to look at it may never end


def record_profile(qemu: str | Sequence[str], file: Path, *, log: Log = lambda _: None) -> None:
    """
    Ask a QEMU (a program, or a command with its first arguments) all that a profile holds; write it to `file`.

    It needs neither KVM nor a guest, and takes a few minutes. `log` is told how far it is.

    Raises:
        RecordingError: this is no QEMU that can be recorded, or the file cannot be written.

    """
    command = shlex.split(qemu) if isinstance(qemu, str) else list(qemu)
    record: dict[str, Any] = {"format": FORMAT}
    with RecordedQemu(command, "none") as started:
        record["schema"] = started.ask("query-qmp-schema")
        known = {each["name"] for each in record["schema"] if each["meta-type"] == "command"}
        record["replies"] = _replies(started, known)
        log("replies of commands")
        record["types"] = _types(started)
    record["properties"] = _properties(command, record["types"])
    log("properties of types")
    names = list(record["types"]["devices"])
    properties = {name: [each["name"] for each in record["properties"]["device"].get(name, ())] for name in names}
    record["boards"] = record_boards(command, log)
    record["devices"] = DeviceRecorder(command, properties).record_all(names, log)
    _write(record, file)


def _replies(qemu: RecordedQemu, known: set[str]) -> list[list[Any]]:
    """Ask what needs no machine: [command, arguments, reply] of each."""
    asked: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in _PLAIN if name in known]
    asked.append(("query-machines", {"compat-props": True}))
    for each in qemu.ask("query-cpu-definitions"):
        for kind in _EXPANSIONS:
            asked.append(("query-cpu-model-expansion", {"type": kind, "model": {"name": each["name"]}}))
            asked.append(
                (
                    "query-cpu-model-expansion",
                    {"type": kind, "model": {"name": each["name"], "props": {"migratable": False}}},
                )
            )
    asked += [(_MONITOR, {"command-line": line}) for line in _help_lines(qemu)]
    return [[name, arguments, qemu.reply(name, arguments)] for name, arguments in asked]


def _help_lines(qemu: RecordedQemu) -> list[str]:
    """Give what the human monitor is asked about itself: all, and each command by each of its names."""
    lines = ["help"]
    for about in ("help", "help info"):
        for line in qemu.monitor(about).splitlines():
            start, found, _ = line.partition(" -- ")
            if found and not line.startswith(("\t", " ")):
                words = start.split()
                names = words[1 if words[0] == "info" and len(words) > 1 and about == "help info" else 0]
                lines += [f"{about} {name}" for name in names.split("|")]
    return list(dict.fromkeys(lines))


def _types(qemu: RecordedQemu) -> dict[str, Any]:
    """Record all types in QEMU's order, the abstract ones, and for each interface which types have it."""
    every = qemu.ask("qom-list-types", abstract=True)
    concrete = {each["name"] for each in qemu.ask("qom-list-types", abstract=False)}
    interfaces = {
        each["name"]: [one["name"] for one in qemu.ask("qom-list-types", implements=each["name"], abstract=True)]
        for each in [*qemu.ask("qom-list-types", implements="interface", abstract=True), {"name": "interface"}]
    }
    return {
        "all": [[each["name"], each.get("parent", "")] for each in every],
        "abstract": [each["name"] for each in every if each["name"] not in concrete],
        "interfaces": interfaces,
        "devices": [each["name"] for each in qemu.ask("qom-list-types", implements="device", abstract=False)],
    }


def _properties(command: Sequence[str], types: dict[str, Any]) -> dict[str, Any]:
    """Record `device-list-properties` of each device and `qom-list-properties` of each type; errors are kept too."""
    found: dict[str, Any] = {"device": {}, "object": {}, "errors": {}}
    for kind, asked in (("device", "device-list-properties"), ("object", "qom-list-properties")):
        waiting = [name for name, _ in types["all"] if not name.startswith(_UNASKED)]
        while waiting:
            waiting = _ask_for_types(command, asked, waiting, found[kind], found["errors"])
    return found


def _ask_for_types(
    command: Sequence[str], asked: str, names: list[str], found: dict[str, Any], errors: dict[str, Any]
) -> list[str]:
    """Ask for the properties of types; give those that are left when one of them has ended the QEMU."""
    with RecordedQemu(command, "none") as qemu:
        for number, name in enumerate(names, start=1):
            try:
                reply = qemu.reply(asked, {"typename": name})
            except RecordingError:
                return names[number:]
            if "return" in reply:
                found[name] = reply["return"]
            else:
                errors[f"{asked} {name}"] = reply["error"]
    return []


def _write(record: dict[str, Any], file: Path) -> None:
    text = json.dumps(record, separators=(",", ":"), ensure_ascii=False)
    try:
        file.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    except OSError as error:
        raise RecordingError(f"cannot write the profile to {file}: {error.strerror}") from error
