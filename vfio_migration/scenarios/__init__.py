"""Machines described in TOML: read, changed, built and run."""

from vfio_migration.scenarios.file import bundled_scenarios, load_scenario, parse_scenario
from vfio_migration.scenarios.model import ROOT_BUS, Scenario, ScenarioMachine
from vfio_migration.scenarios.overrides import override
from vfio_migration.scenarios.runner import (
    MODES,
    PARTS,
    ModeResult,
    Result,
    Run,
    refuse_endless,
    run_once,
    run_scenario,
)
from vfio_migration.scenarios.without_link import without_link

__all__ = [
    "MODES",
    "PARTS",
    "ROOT_BUS",
    "ModeResult",
    "Result",
    "Run",
    "Scenario",
    "ScenarioMachine",
    "bundled_scenarios",
    "load_scenario",
    "override",
    "parse_scenario",
    "refuse_endless",
    "run_once",
    "run_scenario",
    "without_link",
]
