"""
The pytest plugin: fixtures for machines in virtual time, and the timeline of a test that failed.

It is installed as a package of its own, `pytest_vfio_switchover`, so that pytest can load it without loading anything
else of ours: all that is needed is imported when a test first asks for it.

- `vm_clock`: a `VirtualClock`, or with `@pytest.mark.vm_time("real")` a `RealClock`.
- `vm_recorder`: records what the machines of the other fixtures trace.
- `vm_machine`: a `vfio_migration.testing.MachineRig` that runs.
- `vm_pair`: a `vfio_migration.testing.PairRig`: a source that runs, and a destination.
- `qmp_pair`: a `vfio_migration.testing.QmpPair`: the machines of `vm_pair`, each behind a QMP socket.
- `vfio_device`: attaches devices, with latencies and faults, to `vm_machine`, or to `vm_pair` if the test has that.

`@pytest.mark.vm_schedules(...)` runs a test in many orders of its threads (`vmstate.exploring`); `--vm-schedule STRING`
replays one, `--vm-schedules N` tries so many.
"""

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from .every_schedule import CLOCK, MARKER, add_options, run_in_schedules

if TYPE_CHECKING:
    from vfio_migration.testing import MachineRig, PairRig, QmpPair
    from vmstate import Clock, Recorder

_MARKER = "vm_time"
_TIMES = ("virtual", "real")


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    config.addinivalue_line(
        "markers", f"{_MARKER}(kind): run the machines of this test in 'virtual' time (the default) or in 'real' time"
    )
    config.addinivalue_line(
        "markers",
        f"{MARKER}(policy=, schedules=, seed=, depth=, timing=, preempt=): run this test in many schedules of its "
        "threads, as vmstate.exploring.explore does",
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options about schedules."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    """Run a test that is marked in many schedules."""
    __tracebackhide__ = True
    return run_in_schedules(pyfuncitem) or None


@pytest.fixture
def vm_clock(request: pytest.FixtureRequest) -> "Clock":
    """Give the clock of the test's machines: virtual, or as the marker `vm_time` says."""
    from vmstate import RealClock, VirtualClock  # noqa: PLC0415 - nothing is loaded before it is needed

    explored: Clock | None = request.node.stash.get(CLOCK, None)
    if explored is not None:
        return explored
    kind = _time_of(request.node)
    return VirtualClock() if kind == "virtual" else RealClock()


@pytest.fixture
def vm_recorder(request: pytest.FixtureRequest) -> "Recorder":
    """Record what the test's machines trace; if the test fails, its report shows the timeline."""
    from vmstate import Recorder  # noqa: PLC0415

    recorder = Recorder()
    request.node.stash[_recorder_key] = recorder
    return recorder


@pytest.fixture
def vm_machine(request: pytest.FixtureRequest, vm_clock: "Clock", vm_recorder: "Recorder") -> "Iterator[MachineRig]":
    """Give a machine that runs; its devices are taken away after the test."""
    from vfio_migration.testing import MachineRig  # noqa: PLC0415

    with MachineRig(clock=vm_clock, recorder=vm_recorder) as rig:
        request.node.stash[_rig_key] = rig
        yield rig


@pytest.fixture
def vm_pair(request: pytest.FixtureRequest, vm_clock: "Clock", vm_recorder: "Recorder") -> "Iterator[PairRig]":
    """Give a source that runs and a destination for it; their devices are taken away after the test."""
    from vfio_migration.testing import PairRig  # noqa: PLC0415

    with PairRig(clock=vm_clock, recorder=vm_recorder) as rig:
        request.node.stash[_rig_key] = rig
        yield rig


@pytest.fixture
def qmp_pair(vm_pair: "PairRig") -> "Iterator[QmpPair]":
    """Give the machines of `vm_pair` behind QMP sockets, each with a client that is connected."""
    from vfio_migration.testing import QmpPair  # noqa: PLC0415

    with QmpPair(vm_pair) as pair:
        yield pair


@pytest.fixture
def vfio_device(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Attach devices: `vfio_device("vf0", depth=2, latency=0.1, fail="PRE_COPY -> PRE_COPY_P2P")`."""
    rig = request.getfixturevalue("vm_pair" if "vm_pair" in request.fixturenames else "vm_machine")
    add: Callable[..., Any] = rig.add_device
    return add


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: "pytest.CallInfo[None]"
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the timeline of a test that failed, and always the faults that it arranged and never met."""
    report = yield
    rig = item.stash.get(_rig_key, None)
    if rig is not None and report.when == "call" and rig.unmet_faults:
        report.sections.append(("faults that were never met", "\n".join(rig.unmet_faults)))
    recorder = item.stash.get(_recorder_key, None)
    if recorder is not None and report.failed and recorder.events:
        from vfio_migration.recorded import build_timeline  # noqa: PLC0415
        from vfio_migration.testing import sketch  # noqa: PLC0415

        report.sections.append(("machine timeline", sketch(build_timeline(recorder.events).spans)))
    return report


_recorder_key = pytest.StashKey["Recorder"]()
_rig_key = pytest.StashKey["MachineRig | PairRig"]()


def _time_of(item: Any) -> str:
    marker = item.get_closest_marker(_MARKER)
    if marker is None:
        return _TIMES[0]
    kind = marker.args[0] if len(marker.args) == 1 and not marker.kwargs else None
    if kind not in _TIMES:
        raise pytest.UsageError(
            f"{item.nodeid}: @pytest.mark.{_MARKER}(...) takes 'virtual' or 'real'; got {marker.args!r}"
        )
    return str(kind)
