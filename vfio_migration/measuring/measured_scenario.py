"""Writes what was measured as a scenario, for `run`, `predict` and forecasts."""

import glob
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import tomli_w

from vfio_migration.device import MigrationFlags
from vfio_migration.live import Phases
from vfio_migration.measuring.figures import medians
from vfio_migration.measuring.measured_run import PARKED, PER_CHANGE, SERIAL
from vfio_migration.measuring.measurement import (
    CONFIG,
    PRECOPY_BYTES,
    READS,
    STATE_BYTES,
    WRITES,
    Measurement,
    slowed,
)
from vfio_migration.scenarios import ROOT_BUS, Scenario, parse_scenario
from vfio_migration.wording import arc_name

_HINDERED = 1.25  # times as long in threads: below that it is noise, or what threads cost
_STEPS = 40  # of halving: far below a nanosecond


@dataclass(frozen=True)
class MeasuredScenario:
    """The text of a TOML file, what it predicts for each mode that was measured, in seconds, and notes."""

    text: str
    predicted: dict[str, float]
    notes: tuple[str, ...]


def measured_scenario(measurement: Measurement, description: str) -> MeasuredScenario | None:
    """Write the scenario; None if no switchover completed."""
    modes = [mode for mode in measurement.runs if measurement.completed(mode)]
    if not modes:
        return None
    threads = next((mode for mode in (PER_CHANGE, PARKED) if mode in modes), None)
    hindered = _hindered(measurement, threads)
    mode = threads if threads is not None and (hindered or SERIAL not in modes) else SERIAL
    notes = (*_about(measurement), *hindered)
    data = _data(measurement, mode, description)
    bare = _parsed(data)
    phases = _around(measurement, bare, mode)
    if threads is not None and mode == SERIAL:
        phases = _with_launches(measurement, bare, phases, threads)
    data |= _phases_table(phases)
    whole = _parsed(data)
    predicted = {each: _planned(whole if each != SERIAL else whole.serial()) for each in modes}
    header = "".join(f"# - {note}\n" for note in notes)
    return MeasuredScenario(f"# Measured.\n{header}\n{tomli_w.dumps(data)}", predicted, notes)


def _about(measurement: Measurement) -> tuple[str, ...]:
    """Say what the figures cannot know."""
    notes = [
        "No guest worked with the devices. With one there is more state, more to stop: these times are lower bounds.",
        (
            "[phases] is what this instrument's own machine took around the devices. A QEMU takes other times "
            "for that: an import of its log has them."
        ),
        "Link, memory and other devices' state are not here, nor what processors of another host, or a busy one, take.",
    ]
    if measurement.itself:
        notes.append(
            "Each device took back its own state, after it was reset: another device may load more slowly. Reading and "
            "loading, which overlap in a migration, were measured one after the other, and the longer one counts."
        )
    return tuple(notes)


def _hindered(measurement: Measurement, threads: str | None) -> tuple[str, ...]:
    """Say that devices wait for each other, if they do."""
    if threads is None or SERIAL not in measurement.runs:
        return ()
    times = slowed(measurement, threads)
    if len(times) < 2 or fmean(times.values()) < _HINDERED:  # noqa: PLR2004 - one has nobody to wait for
        return ()
    said = (
        f"In threads the devices' arcs took {fmean(times.values()):.1f} times as long as one after another: they wait "
        "for each other below the mechanism (in firmware, in a driver, or for a processor). The latencies are those in "
        "threads, so what this predicts for serial changes is too long; --mode serial measures for these."
    )
    return (said,)


def _data(measurement: Measurement, mode: str, description: str) -> dict[str, Any]:
    return {
        "description": description,
        "tree": {"devices": [{"bus": ROOT_BUS, "id": name, "type": "vfio-pci"} for name in measurement.devices]},
        "vfio": [_device(measurement, mode, name) for name in measurement.devices],
    }


def _device(measurement: Measurement, mode: str, name: str) -> dict[str, Any]:
    flags, samples, sizes = measurement.flags[name], measurement.samples(mode, name), measurement.sizes(mode, name)
    size, before = (round(each) for each in medians([sizes[STATE_BYTES], sizes[PRECOPY_BYTES]]))
    reading, writing, config = medians([samples.get(what, ()) for what in (READS, WRITES, CONFIG)])
    data: dict[str, Any] = {
        "devices": glob.escape(name),
        "p2p": MigrationFlags.P2P in flags,
        "precopy": MigrationFlags.PRE_COPY in flags,
        "state_size": size,
    }
    if MigrationFlags.PRE_COPY in flags:
        data |= {"precopy_size": before, "precopy_dirty": []}
    if size and reading > 0:
        data["rate"] = size / reading
    if size and writing > 0:
        data["write_rate"] = (size + before) / writing
    if config > 0:
        data["config_load"] = config
    data["latency"] = {
        arc_name(*arc): seconds[0] if min(seconds) == max(seconds) else {"samples": sorted(seconds)}
        for arc, seconds in measurement.arcs(mode, name).items()
    }
    return data


def _around(measurement: Measurement, bare: Scenario, mode: str) -> Phases:
    """Give each part of the switchover what it took longer than devices do."""
    plan = (bare.serial() if mode == SERIAL else bare).plan()
    rest = {
        part: max(0.0, (found.median if (found := measurement.part(mode, part)) is not None else 0.0) - planned)
        for part, planned in (
            ("source_stop_s", plan.source_stop_s),
            ("transfer_s", plan.transfer_s),
            ("destination_start_s", plan.destination_start_s),
        )
    }
    return Phases(
        pause_vcpus_s=rest["source_stop_s"],
        other_state_s=rest["transfer_s"],
        load_state_s=rest["destination_start_s"],
    )


def _with_launches(measurement: Measurement, bare: Scenario, phases: Phases, threads: str) -> Phases:
    """Let launches and joins take what the switchover in threads took longer than so far said, half each."""
    found = measurement.part(threads, "switchover_s")
    if found is None:
        return phases

    def planned(seconds: float) -> float:
        return _planned(replace(bare, phases=replace(phases, launch_s=seconds / 2, join_s=seconds / 2)))

    return replace(phases, **dict.fromkeys(("launch_s", "join_s"), _solved(planned, found.median) / 2))


def _solved(planned: Callable[[float], float], wanted: float) -> float:
    """Give the seconds for which the plan, which grows with them, gives `wanted`; 0 if it gives more without."""
    low, high = 0.0, wanted
    if planned(low) >= wanted:
        return 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if planned(middle) < wanted else (low, middle)
    return low


def _planned(scenario: Scenario) -> float:
    return scenario.plan().bounds.mechanism_s


def _phases_table(phases: Phases) -> dict[str, Any]:
    table = {key: value for key, value in vars(phases).items() if value}
    return {"phases": table} if table else {}


def _parsed(data: dict[str, Any]) -> Scenario:
    return parse_scenario(tomli_w.dumps(data), Path("measured.toml"))
