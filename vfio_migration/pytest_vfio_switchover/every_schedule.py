"""
`@pytest.mark.vm_schedules`: a test is run in many schedules, with its fixtures made anew for each.

What pytest has set up before the call is torn down, and set up and torn down again inside each schedule: its fixtures
of function scope, the user's own among them, since what they hold is part of what a schedule must not find changed.
Rejected: to make only our own rigs anew. A fixture that attaches devices to `vm_pair` would attach them to the first
one only. Pytest has no public way to do this; what is used here is what pytest-rerunfailures uses.
"""

import shlex
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vmstate import VirtualClock
    from vmstate.exploring import ScheduleFailure

MARKER = "vm_schedules"
CLOCK = pytest.StashKey["VirtualClock"]()
_OPTIONS = ("policy", "schedules", "seed", "depth", "timing", "preempt")


def add_options(parser: pytest.Parser) -> None:
    """Add what the command line may say about schedules."""
    group = parser.getgroup("vfio-switchover")
    group.addoption(
        "--vm-schedule",
        metavar="STRING",
        help=f"run tests marked {MARKER} in this one schedule, as a failure showed it",
    )
    group.addoption("--vm-schedules", type=int, metavar="N", help=f"try so many schedules of each test marked {MARKER}")


def run_in_schedules(item: pytest.Function) -> bool:
    """Run a test as its marker says; False if it has none."""
    __tracebackhide__ = True
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return False
    options = _options_of(item, marker)
    from vmstate.exploring import explore, replay  # noqa: PLC0415 - nothing is loaded before it is needed

    def test(clock: "VirtualClock") -> None:
        _run_anew(item, clock)

    schedule = item.config.getoption("--vm-schedule")
    try:
        if schedule is not None:
            replay(test, schedule)
            return True
        failure = explore(test, **options).failure
    finally:
        if CLOCK in item.stash:
            del item.stash[CLOCK]
    if failure is not None:
        _raise(item, failure)
    return True


def _raise(item: pytest.Function, failure: "ScheduleFailure") -> None:
    __tracebackhide__ = True
    if isinstance(failure.__cause__, pytest.skip.Exception | pytest.xfail.Exception):
        raise failure.__cause__
    command = shlex.join(["pytest", item.nodeid, "--vm-schedule", failure.schedule])
    failure.add_note(f"or: {command}")
    raise failure


def _options_of(item: pytest.Function, marker: pytest.Mark) -> dict[str, Any]:
    if marker.args or set(marker.kwargs) - set(_OPTIONS):
        raise pytest.UsageError(
            f"{item.nodeid}: @pytest.mark.{MARKER}(...) takes {', '.join(f'{each}=' for each in _OPTIONS)}; "
            f"got {marker.args or ''}{marker.kwargs or ''}"
        )
    time = item.get_closest_marker("vm_time")
    if time is not None and time.args == ("real",):
        raise pytest.UsageError(f"{item.nodeid}: schedules are explored in virtual time, not in real time")
    options = dict(marker.kwargs)
    schedules = item.config.getoption("--vm-schedules")
    if schedules is not None:
        options["schedules"] = schedules
    return options


def _run_anew(item: pytest.Function, clock: "VirtualClock") -> None:
    """Run the test once, with all its fixtures made for this run."""
    __tracebackhide__ = True
    item.stash[CLOCK] = clock
    _tear_down(item)
    item._initrequest()  # noqa: SLF001 - see above
    finalizers = item.session._setupstate.stack[item][0]  # noqa: SLF001
    before = len(finalizers)
    try:
        item._request._fillfixtures()  # noqa: SLF001
        item.obj(**{name: item.funcargs[name] for name in item._fixtureinfo.argnames})  # noqa: SLF001
    finally:
        try:
            _tear_down(item)
        finally:
            del finalizers[before:]  # they have nothing left to do, and would pile up schedule by schedule


def _tear_down(item: pytest.Function) -> None:
    """Tear down the fixtures of the test's own scope, those that others stand on last."""
    request = item._request  # noqa: SLF001
    noted = dict(item.stash._storage)  # noqa: SLF001
    errors: list[BaseException] = []
    for fixture in reversed(list(request._fixture_defs.values())):  # noqa: SLF001
        if fixture.scope == "function":
            try:
                fixture.finish(request)
            except BaseException as error:  # noqa: BLE001 - all are torn down, then it is raised
                errors.append(error)
    for key, value in noted.items():  # some fixtures (tmp_path) forget what they expect to find when they end again
        item.stash.setdefault(key, value)
    if errors:
        raise errors[0]
