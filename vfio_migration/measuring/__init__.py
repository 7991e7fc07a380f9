"""Measuring devices: switchovers by the mechanism itself, timed request by request, and the scenario they come to."""

from vfio_migration.measuring.figures import Figures, figures
from vfio_migration.measuring.measured_json import measured_json
from vfio_migration.measuring.measured_run import MODES, PARKED, PER_CHANGE, SERIAL, MeasuredRun, Subject
from vfio_migration.measuring.measured_scenario import MeasuredScenario, measured_scenario
from vfio_migration.measuring.measurement import PARTS, Measurement, measure, slowed
from vfio_migration.measuring.timed_backend import Request, Requests, TimedBackend

__all__ = [
    "MODES",
    "PARKED",
    "PARTS",
    "PER_CHANGE",
    "SERIAL",
    "Figures",
    "MeasuredRun",
    "MeasuredScenario",
    "Measurement",
    "Request",
    "Requests",
    "Subject",
    "TimedBackend",
    "figures",
    "measure",
    "measured_json",
    "measured_scenario",
    "slowed",
]
