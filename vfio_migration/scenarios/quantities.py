"""
Numbers with units, as people write them in scenarios: `"100ms"`, `"5 MB"`, `"1e6"`, `"10 Gbit/s"`.

Each key has one unit, so a number alone is seconds, bytes, or bytes per second.
"""

import re
from collections.abc import Mapping
from typing import Any

_TIMES = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "min": 60.0}
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZES = {
    "": 1,
    **{f"{prefix}b": factor for prefix, factor in _DECIMAL.items()},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate(("k", "m", "g", "t"), start=1)},
}
_RATES = {
    "": 1.0,
    **{f"{unit}/s": float(factor) for unit, factor in _SIZES.items() if unit},
    **{f"{prefix}bit/s": factor / 8 for prefix, factor in _DECIMAL.items()},
}
_NUMBER = re.compile(r"(?P<number>[+-]?(?:\d[\d_]*)?\.?\d*(?:[eE][+-]?\d+)?) ?(?P<unit>[a-zA-Zµ/]*)")

# What the keys of each table are; all of `[phases]` are times.
_KINDS: dict[str, dict[str, str]] = {
    "handlers": dict.fromkeys(("stop", "start", "prepare_stop", "prepare_start"), "time"),
    "watchdog": dict.fromkeys(("warn_after", "give_up_after"), "time"),
    "faults": {"seconds": "time"},
    "ram": {"size": "size", "dirty_rate": "rate"},
    "link": {"bandwidth": "rate", "latency_s": "time"},
    "parameters": {"downtime_limit_s": "time", "max_bandwidth": "rate", "switchover_bandwidth": "rate"},
    "vfio": {
        "state_size": "size",
        "precopy_size": "size",
        "initial_size": "size",
        "rate": "rate",
        "write_rate": "rate",
        "config_load": "time",
    },
}
_EXPECTED = {
    "time": "seconds, a number such as 0.1 or '100ms'",
    "size": "bytes, a number such as 5000000 or '5 MB'",
    "rate": "bytes per second, a number such as 1e9 or '8 Gbit/s'",
}
_UNITS: dict[str, Mapping[str, float]] = {"time": _TIMES, "size": _SIZES, "rate": _RATES}


def with_plain_numbers(data: Mapping[str, Any]) -> dict[str, Any]:
    """
    Give the data of a file with plain numbers in the place of those that have a unit.

    Raises:
        ValueError: a text is no number of that kind; the message begins with its key.

    """
    plain = dict(data)
    for table, value in data.items():
        if isinstance(value, list):
            plain[table] = [
                _plain_table(f"{table}[{number}]", table, each) if isinstance(each, dict) else each
                for number, each in enumerate(value)
            ]
        elif isinstance(value, dict):
            plain[table] = _plain_table(table, table, value)
    return plain


def plain_device(key: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Give a `[[vfio]]`, or some keys of one, with plain numbers; raises as `with_plain_numbers`."""
    return _plain_table(key, "vfio", entry)


def plain_table(table: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Give a table such as `[link]`, or some keys of one, with plain numbers; raises as `with_plain_numbers`."""
    return _plain_table(table, table, entry)


def plain_time(key: str, value: Any) -> Any:
    """Give seconds as a number; raises as `with_plain_numbers`."""
    return _plain(key, "time", value)


def _plain_table(key: str, table: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    plain = dict(entry)
    for name, value in entry.items():
        where = f"{key}.{name}"
        kind = "time" if table == "phases" else _KINDS.get(table, {}).get(name)
        if kind is not None:
            plain[name] = _plain(where, kind, value)
        elif table == "vfio":
            plain[name] = _of_device(where, name, value)
    return plain


def _of_device(where: str, name: str, value: Any) -> Any:
    if name == "precopy_dirty" and isinstance(value, list | tuple):
        return [_plain(f"{where}[{number}]", "size", each) for number, each in enumerate(value)]
    if name == "latency" and isinstance(value, Mapping):
        return {arc: _latency(f"{where}.{arc!r}", each) for arc, each in value.items()}
    return value


def _latency(where: str, value: Any) -> Any:
    """Read a time, or one that varies: each time in what is said of it."""
    if not isinstance(value, Mapping):
        return _plain(where, "time", value)
    return {
        key: [_plain(f"{where}.{key}[{number}]", "time", one) for number, one in enumerate(each)]
        if isinstance(each, list | tuple)
        else _plain(f"{where}.{key}", "time", each)
        for key, each in value.items()
    }


def _plain(key: str, kind: str, value: Any) -> Any:
    """Read a text as a number of this kind; a size that is a whole number becomes one (`1e6`)."""
    number = value
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value.strip())
        factor = None if match is None else _factor(kind, match["unit"])
        try:
            number = None if match is None or factor is None else float(match["number"]) * factor
        except ValueError:
            number = None
        if number is None:
            known = ", ".join(unit for unit in _UNITS[kind] if unit)
            raise ValueError(f"{key}: expected {_EXPECTED[kind]}, got {value!r}; units: {known}")
    if kind == "size" and isinstance(number, float) and number.is_integer():
        return int(number)
    return round(number, 12) if kind == "time" and isinstance(value, str) else number


def _factor(kind: str, unit: str) -> float | None:
    """Give what a unit stands for; those of sizes and rates are written as people like."""
    return _UNITS[kind].get(unit if kind == "time" else unit.lower())
