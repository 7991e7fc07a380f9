"""How many CPUs a machine has, and how they lie: `-smp` (QEMU's `machine_parse_smp_config`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from vfio_migration.emulator.errors import QmpError

_LEVELS = ("sockets", "dies", "modules", "cores", "threads")
_NOT_OF_A_PC = ("drawers", "books", "clusters")
_KNOWN = ("cpus", *_NOT_OF_A_PC, *_LEVELS, "maxcpus")


@dataclass(frozen=True)
class Topology:
    """`cpus` there are at first, and `most` there may be."""

    cpus: int = 1
    most: int = 1
    cores: int = 1  # of a socket
    threads: int = 1  # of a core


def read_topology(values: Mapping[str, Any]) -> Topology:
    """
    Give what `-smp` says; of what it does not say, cores are as many as it takes.

    Raises:
        QmpError: it makes no sense; in QEMU's words.

    """
    said = _numbers(values)
    for name in _NOT_OF_A_PC:
        if said.pop(name, 1) > 1:
            raise QmpError(f"{name} > 1 not supported by this machine's CPU topology")
    cpus, most = said.pop("cpus", 0), said.pop("maxcpus", 0)
    wanted = most or cpus
    levels = {name: said.get(name, 1) for name in _LEVELS}
    if wanted:
        # What takes up the rest: cores if nothing was said of them, then sockets, then threads.
        rest = next((name for name in ("cores", "sockets", "threads") if name not in said), None)
        if rest is not None:
            levels[rest] = wanted // prod(count for name, count in levels.items() if name != rest)
    total = prod(levels.values())
    most = wanted or total
    cpus = cpus or most
    product = " * ".join(f"{name} ({count})" for name, count in levels.items())
    if total != most:
        raise QmpError(
            f"Invalid CPU topology: product of the hierarchy must match maxcpus: {product} != maxcpus ({most})"
        )
    if most < cpus:
        raise QmpError(
            f"Invalid CPU topology: maxcpus must be equal to or greater than smp: {product} == maxcpus ({most}) "
            f"< smp_cpus ({cpus})"
        )
    return Topology(cpus, most, levels["cores"], levels["threads"])


def _numbers(values: Mapping[str, Any]) -> dict[str, int]:
    numbers = {}
    for name, value in values.items():
        if name not in _KNOWN:
            raise QmpError(f"Parameter 'smp.{name}' is unexpected")
        if not str(value).isdecimal():
            raise QmpError(f"Parameter 'smp.{name}' expects integer")
        numbers[name] = int(value)
    if 0 in numbers.values():
        raise QmpError("Invalid CPU topology: CPU topology parameters must be greater than zero")
    return numbers
