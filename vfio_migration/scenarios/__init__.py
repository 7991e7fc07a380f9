"""Machines described in TOML: read, changed, built and run."""

from vfio_migration.scenarios.distributions import MOST_S, Distribution, LogNormal, Samples, Uniform
from vfio_migration.scenarios.entries import FaultEntry
from vfio_migration.scenarios.file import (
    bundled_scenarios,
    latencies,
    load_scenario,
    parse_scenario,
    scenario_for_tree,
)
from vfio_migration.scenarios.model import ROOT_BUS, DeviceSpec, Scenario, ScenarioMachine
from vfio_migration.scenarios.overrides import override
from vfio_migration.scenarios.phase_waits import add_phases
from vfio_migration.scenarios.quantities import plain_device, plain_table
from vfio_migration.scenarios.runner import (
    MODES,
    PARTS,
    ModeResult,
    Result,
    Run,
    at_their_means,
    by_strategy,
    refuse_endless,
    run_once,
    run_scenario,
)
from vfio_migration.scenarios.scenario_faults import FaultSpec
from vfio_migration.scenarios.without_link import without_link

__all__ = [
    "MODES",
    "MOST_S",
    "PARTS",
    "ROOT_BUS",
    "DeviceSpec",
    "Distribution",
    "FaultEntry",
    "FaultSpec",
    "LogNormal",
    "ModeResult",
    "Result",
    "Run",
    "Samples",
    "Scenario",
    "ScenarioMachine",
    "Uniform",
    "add_phases",
    "at_their_means",
    "bundled_scenarios",
    "by_strategy",
    "latencies",
    "load_scenario",
    "override",
    "parse_scenario",
    "plain_device",
    "plain_table",
    "refuse_endless",
    "run_once",
    "run_scenario",
    "scenario_for_tree",
    "without_link",
]
