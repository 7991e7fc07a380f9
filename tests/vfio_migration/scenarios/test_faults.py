"""What a scenario's `[[faults]]` make go wrong, where, and what is refused as making no sense."""

from pathlib import Path
from typing import Any

import pytest
from suite.machines import S

from vfio_migration import MockDevice, ScenarioError
from vfio_migration.scenarios.entries import FaultEntry
from vfio_migration.scenarios.file import parse_scenario
from vfio_migration.scenarios.scenario_faults import FaultSpec
from vmstate import VirtualClock

TEXT = """
[tree]
devices = [{ bus = "main-system-bus", id = "vf0" }]

[[vfio]]
devices = "vf0"

[[faults]]
device = "vf0"
"""


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            'at = "reset"\nkind = "stall"\nseconds = 1',
            r"faults\[0\]: kind: expected one of fail at 'reset', got 'stall'",
        ),
        ('at = "read"\nkind = "into-error"', "kind: expected one of fail, short, altered, cut at 'read'"),
        ('at = "STOP -> RUNNING"\nkind = "cut"', "kind: expected one of fail, into-error, stall at 'STOP -> RUNNING'"),
        ('at = "lunch"', "at: expected an arc such as 'RESUMING -> STOP', 'reset', 'read' or 'write', got 'lunch'"),
        ('at = "read"\nerrno = "EWHAT"', "errno: expected a name such as 'EIO', got 'EWHAT'"),
        ('at = "read"\ntimes = 0', r"faults\[0\]: "),
        ('at = "STOP -> RUNNING"\nkind = "stall"', r"faults\[0\].seconds: expected how long it stalls"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(fault: str, text: str) -> None:
    with pytest.raises(ScenarioError, match=text):
        parse_scenario(TEXT + fault, Path("bad.toml"))


def arranged(entry: FaultEntry) -> MockDevice:
    mock = MockDevice(state_size=1000)
    FaultSpec("vf0", entry).arrange(mock)
    return mock


def test_a_reset_fails_as_often_as_is_said() -> None:
    mock = arranged(FaultEntry("vf0", "reset", errno="ENODEV", times=2))
    for _ in range(2):
        with pytest.raises(OSError, match=r"ENODEV|No such device"):
            mock.reset()
    mock.reset()
    assert mock.unmet_faults == ()


@pytest.mark.parametrize(("kind", "state"), [("fail", S.RUNNING), ("into-error", S.ERROR)])
def test_a_step_fails_where_it_was_or_in_error(kind: Any, state: S) -> None:
    mock = arranged(FaultEntry("vf0", "RUNNING -> RUNNING_P2P", kind=kind, errno="EBUSY"))
    with pytest.raises(OSError, match=r"EBUSY|busy"):
        mock.set_arc(S.RUNNING_P2P)
    assert mock.state is state


def test_a_step_stalls_for_the_time_that_is_said() -> None:
    mock = arranged(FaultEntry("vf0", "RUNNING -> RUNNING_P2P", kind="stall", seconds=3.0))
    clock = VirtualClock()
    mock.bind(clock)
    mock.set_arc(S.RUNNING_P2P)
    assert clock.now() == 3_000_000_000


def read_from(mock: MockDevice) -> bytes:
    mock.set_arc(S.RUNNING_P2P)
    mock.set_arc(S.STOP)
    mock.set_arc(S.STOP_COPY)
    return b"".join(iter(lambda: mock.read(1 << 20), b""))


def test_bytes_that_are_read_fail_end_early_or_are_others() -> None:
    whole = read_from(MockDevice(state_size=1000))
    with pytest.raises(OSError, match=r"EIO|Input/output"):
        read_from(arranged(FaultEntry("vf0", "read")))
    assert len(read_from(arranged(FaultEntry("vf0", "read", kind="cut")))) < len(whole)
    altered = read_from(arranged(FaultEntry("vf0", "read", kind="altered")))
    assert len(altered) == len(whole)


def test_bytes_that_are_written_fail() -> None:
    mock = arranged(FaultEntry("vf0", "write", errno="ENOSPC"))
    mock.set_arc(S.RUNNING_P2P)
    mock.set_arc(S.STOP)
    mock.set_arc(S.RESUMING)
    with pytest.raises(OSError, match=r"ENOSPC|No space"):
        mock.write(read_from(MockDevice(state_size=1000)))
