"""Tries every type of device that a QEMU has, and writes down what came of it."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vfio_migration.emulator.errors import RecordingError
from vfio_migration.emulator.profile.backends import NOTHING, Given, tries
from vfio_migration.emulator.profile.recorded_objects import Objects, differing, read_listings, record_objects
from vfio_migration.emulator.profile.recorded_qemu import RecordedQemu
from vfio_migration.emulator.profile.settings import EVERY_PCI, Setting, settings_of
from vfio_migration.emulator.profile.tree_text import BusText, DeviceText, all_devices, read_tree, tree_lines

PROBE = "zprobe"  # the id of what is tried; stands in records wherever the id does
_PATH = f"/machine/peripheral/{PROBE}"
_SYSBUS = "/machine/unattached/sysbus"
_AT_ONCE = 2
_NO_BUS = "No '"
_NEVER = ("pluggable device type", "Invalid CPU type")


@dataclass(frozen=True)
class _Surroundings:
    """What a setting shows without the device that is tried."""

    tree: BusText
    on_sysbus: frozenset[str]
    blockers: tuple[str, ...]


class DeviceRecorder:
    """Tries types of devices with one QEMU. `properties` are the names of each type's."""

    def __init__(self, qemu: Sequence[str], properties: Mapping[str, list[str]]) -> None:
        self._qemu = qemu
        self._properties = properties
        self._surroundings = lru_cache(maxsize=None)(self._bare)

    def record_all(self, types: Sequence[str], log: Callable[[str], None]) -> dict[str, dict[str, Any]]:
        """Try all types, some at once. `log` is told of each hundred."""
        found = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for number, (name, record) in enumerate(zip(types, pool.map(self.record, types), strict=True), start=1):
                found[name] = record
                if number % 100 == 0 or number == len(types):
                    log(f"{number} of {len(types)} device types")
        return found

    def record(self, name: str) -> dict[str, Any]:
        """Try one type in each setting that it may be in, and give what was found, or why nothing was."""
        bus_type, refused = self._bus_type(name)
        record: dict[str, Any] = {"bus": bus_type}
        if refused:
            return record | {"refused": refused}
        settings: dict[str, Any] = {}
        given: Given | None = None
        base: Objects = {}
        for setting in settings_of(bus_type):
            if settings and (setting not in EVERY_PCI and setting.name not in ("uhci", "ide", "pc")):
                break
            tried = [given] if given is not None else tries(self._properties.get(name, []))
            for one in tried:
                try:
                    found = self._try(name, setting, one)
                except RecordingError as error:
                    if one is NOTHING:
                        record.setdefault("refused", _words(str(error)))
                    continue
                objects: Objects = found.pop("objects")
                found["objects"] = differing(objects, base)
                given, base = one, base or objects
                settings[setting.name] = found
                break
        if settings:
            record["settings"] = settings
            if given == NOTHING:
                record.pop("refused", None)
        return record

    def _bus_type(self, name: str) -> tuple[str, str]:
        """Ask a machine without any bus for a device: it says which bus is missing, or why there is no such device."""
        try:
            with RecordedQemu(self._qemu, "none", ("-device", name)):
                return "", ""
        except RecordingError as error:
            words = _words(str(error))
        if words.startswith(_NO_BUS):
            return words.split("'", 2)[1], ""
        return "", words if any(never in words for never in _NEVER) else ""

    def _bare(self, setting: Setting) -> _Surroundings:
        with RecordedQemu(self._qemu, setting.machine, setting.options) as qemu:
            return _Surroundings(read_tree(qemu.monitor("info qtree")), _on_sysbus(qemu), _blockers(qemu))

    def _try(self, name: str, setting: Setting, given: Given) -> dict[str, Any]:
        surroundings = self._surroundings(setting)
        wanted = [name, f"id={PROBE}", *([f"bus={setting.bus}"] if setting.bus else [])]
        wanted += [f"{key}={value}" for key, value in given.options]
        with RecordedQemu(
            self._qemu, setting.machine, (*setting.options, *given.makes, "-device", ",".join(wanted))
        ) as qemu:
            found: dict[str, Any] = {"objects": record_objects(qemu, _PATH)}
            tree = read_tree(qemu.monitor("info qtree"))
            below = [path for path in sorted(_on_sysbus(qemu) - surroundings.on_sysbus) if not path.startswith(_PATH)]
            for path in below:
                found["objects"].update(record_objects(qemu, path))
            blockers = [words for words in _blockers(qemu) if words not in surroundings.blockers]
            pci = _pci_of(qemu.reply("query-pci").get("return", []))
        for bus, device in all_devices(tree):
            if device.id == PROBE:
                found["tree"] = "\n".join(tree_lines(device))
                found["on"] = [bus.name, bus.type]
        beside = [[bus, "\n".join(tree_lines(device))] for bus, device in _added(tree, surroundings.tree)]
        if given.options:
            found["given"] = dict(given.options)
        return found | {
            key: value
            for key, value in (("beside", beside), ("below", below), ("blockers", blockers), ("pci", pci))
            if value
        }


def _words(error: str) -> str:
    """Give QEMU's words without the name of the program and the option that they are about."""
    last = error.rpartition("; ")[2] if "-device" not in error else error[error.index("-device") :]
    head, found, words = last.partition(": ")
    return words if found and head.startswith("-device") else last


def _on_sysbus(qemu: RecordedQemu) -> frozenset[str]:
    (listing,) = read_listings(qemu, [_SYSBUS])
    return frozenset(each[2] for each in listing if each[0].startswith("child["))


def _blockers(qemu: RecordedQemu) -> tuple[str, ...]:
    return tuple(qemu.ask("query-migrate").get("blocked-reasons", ()))


def _pci_of(buses: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Find the entry of the device that is tried among those of `query-pci`."""
    for bus in buses:
        for device in bus.get("devices", ()):
            if device["qdev_id"] == PROBE:
                return dict(device)
            found = _pci_of([device["pci_bridge"]]) if "pci_bridge" in device else None
            if found is not None:
                return found
    return None


def _added(tree: BusText, before: BusText) -> list[tuple[str, DeviceText]]:
    """Give the devices that came with the one that is tried, beside it and what lies below it; newest stand first."""
    new = tree.devices[: len(tree.devices) - len(before.devices)]
    found = [(tree.name, device) for device in new if device.id != PROBE]
    for now, then in zip(tree.devices[len(new) :], before.devices, strict=True):
        for bus, bus_then in zip(now.buses, then.buses, strict=False):
            found += _added(bus, bus_then)
    return found
