"""What `measure --json` writes."""

from dataclasses import asdict
from typing import Any

from vfio_migration.measuring.figures import Figures, figures
from vfio_migration.measuring.measured_scenario import MeasuredScenario
from vfio_migration.measuring.measurement import PARTS, Measurement


def measured_json(measurement: Measurement, scenario: MeasuredScenario | None) -> dict[str, Any]:
    """
    Give all figures: seconds, of sizes bytes.

    Keys: `devices` (by name: `flags`, `times` by what it was and mode, `sizes` by which and mode), `modes` (by mode:
    the parts, and `predicted_s`, what the scenario predicts), `itself`, `failures`, `notes`.
    """
    predicted = {} if scenario is None else scenario.predicted
    return {
        "devices": {name: _device(measurement, name) for name in measurement.devices},
        "modes": {
            mode: {part: _figures(measurement.part(mode, part)) for part in PARTS}
            | {"runs": len(runs), "predicted_s": predicted.get(mode)}
            for mode, runs in measurement.runs.items()
        },
        "itself": measurement.itself,
        "failures": list(measurement.failures),
        "notes": [] if scenario is None else list(scenario.notes),
    }


def _device(measurement: Measurement, name: str) -> dict[str, Any]:
    flags = [str(flag.name) for flag in measurement.flags[name]]
    times: dict[str, dict[str, Any]] = {}
    sizes: dict[str, dict[str, Any]] = {}
    for mode in measurement.runs:
        for what, seconds in measurement.samples(mode, name).items():
            times.setdefault(what, {})[mode] = _figures(figures(seconds))
        for what, counts in measurement.sizes(mode, name).items():
            sizes.setdefault(what, {})[mode] = _figures(figures(counts))
    return {"flags": flags, "times": times, "sizes": sizes}


def _figures(found: Figures | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)
