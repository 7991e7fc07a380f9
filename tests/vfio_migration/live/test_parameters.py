from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from vfio_migration import Link, MigrationParameters, Phases


def test_what_is_not_given_costs_nothing_and_limits_as_qemu_does() -> None:
    assert Phases().total_s == 0
    assert Link(1e9).latency_s == 0
    parameters = MigrationParameters()
    assert (parameters.downtime_limit_s, parameters.max_bandwidth, parameters.multifd_channels) == (0.3, None, 0)


def test_fixed_costs_belong_to_parts() -> None:
    phases = Phases(
        pause_vcpus_s=1,
        flush_block_s=2,
        final_query_s=4,
        other_state_s=8,
        load_state_s=16,
        activate_block_s=32,
        join_s=64,
    )
    assert (phases.source_stop_s, phases.transfer_s, phases.destination_start_s, phases.total_s) == (3, 12, 48, 63)


@pytest.mark.parametrize(
    ("what", "values", "words"),
    [
        (MigrationParameters, {"downtime_limit_s": -1}, "downtime_limit_s: expected seconds"),
        (MigrationParameters, {"downtime_limit_s": float("nan")}, "downtime_limit_s: expected seconds"),
        (MigrationParameters, {"downtime_limit_s": True}, "downtime_limit_s: expected seconds"),
        (MigrationParameters, {"max_bandwidth": 0}, "max_bandwidth: expected bytes per second"),
        (
            MigrationParameters,
            {"switchover_bandwidth": float("inf")},
            "switchover_bandwidth: expected bytes per second",
        ),
        (MigrationParameters, {"multifd_channels": 1.0}, "multifd_channels: expected a whole number"),
        (MigrationParameters, {"switchover_ack": 1}, "switchover_ack: expected true or false"),
        (MigrationParameters, {"switchover_ack": True}, "switchover_ack: expected return_path too"),
        (Link, {"bandwidth": 0}, "bandwidth: expected bytes per second"),
        (Link, {"bandwidth": 1, "latency_s": "1"}, "latency_s: expected seconds"),
        (Phases, {"launch_s": 1e10}, "launch_s: expected seconds"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(what: Any, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        what(**values)


def test_they_are_facts() -> None:
    with pytest.raises(FrozenInstanceError):
        Link(1).bandwidth = 2  # type: ignore[misc]
