"""Assertions on what was recorded, which explain themselves with a small timeline."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from itertools import pairwise, product

from vfio_migration.live import MigrationReport
from vfio_migration.recorded import Span, SpanKind, Timeline, build_timeline, condensed, critical_path
from vfio_migration.testing.sketch import sketch
from vmstate import Recorder, TraceEvent

Recorded = Timeline | Recorder | Iterable[TraceEvent]
"""What can be asserted on: a timeline, a recorder, or recorded events."""

# What a name stands for, unless a kind is given: the work of a device, else the calls of a handler.
_OF_DEVICES = (SpanKind.ARC, SpanKind.SAVE)


def assert_order(recorded: Recorded, *what: str, side: str | None = None, machine: str | None = None) -> None:
    """
    Assert that all of the first had ended before any of the second began, and so on.

    Each of `what` is "NAME", or "NAME: DETAIL", with shell patterns: a device ("vf0", "vf*: * -> STOP_COPY") or a
    handler ("disk", "disk: prepare"). `side` ("source", "destination") and `machine` narrow it down. The order is
    that of the recorded events, so it holds for what takes no time, too.

    Raises:
        AssertionError: it was not so; names the first pair that was out of order.
        ValueError: nothing that was recorded matches, or fewer than two things were named.

    """
    __tracebackhide__ = True
    if len(what) < 2:  # noqa: PLR2004 - an order has two ends
        raise ValueError(f"an order needs two things at least; got {what!r}")
    timeline = _timeline(recorded)
    found = [(each, _find(timeline, each, side, machine)) for each in what]
    for (first, earlier), (second, later) in pairwise(found):
        for one, other in product(earlier, later):
            if one.ended > other.begun:
                raise AssertionError(
                    _explained(timeline, (one, other), f"{first!r} should have ended before {second!r} began, but")
                )


def assert_overlap(
    recorded: Recorded, first: str, second: str, *, side: str | None = None, machine: str | None = None
) -> None:
    """
    Assert that some of the first and some of the second went on at the same time; named as in `assert_order`.

    Raises:
        AssertionError: they did not.
        ValueError: nothing that was recorded matches.

    """
    __tracebackhide__ = True
    timeline = _timeline(recorded)
    ones, others = (_find(timeline, each, side, machine) for each in (first, second))
    if not any(_together(one, other) for one, other in product(ones, others)):
        one, other = min(product(ones, others), key=lambda pair: _distance(*pair))
        raise AssertionError(
            _explained(timeline, (one, other), f"{first!r} and {second!r} never went on at the same time; nearest:")
        )


def assert_disjoint(
    recorded: Recorded, first: str, second: str, *, side: str | None = None, machine: str | None = None
) -> None:
    """
    Assert that none of the first went on at the same time as any of the second; named as in `assert_order`.

    Raises:
        AssertionError: two did.
        ValueError: nothing that was recorded matches.

    """
    __tracebackhide__ = True
    timeline = _timeline(recorded)
    ones, others = (_find(timeline, each, side, machine) for each in (first, second))
    for one, other in product(ones, others):
        if one is not other and _together(one, other):
            raise AssertionError(
                _explained(timeline, (one, other), f"{first!r} and {second!r} went on at the same time:")
            )


def assert_switchover_under(measured: MigrationReport | Recorded, seconds: float) -> None:
    """
    Assert that the switchover was reached and took less than so many seconds.

    Of a report, only the figure is known; a timeline or a recorder says where the time went as well.

    Raises:
        AssertionError: it took as long or longer, or was not reached.

    """
    __tracebackhide__ = True
    if isinstance(measured, MigrationReport):
        took, why = measured.switchover_s, f"the migration is '{measured.status}': {measured.error}"
        path = ""
    else:
        timeline = _timeline(measured)
        took, why = timeline.switchover_s, "no complete switchover was recorded"
        path = "".join(f"\n  {link}" for link in condensed(critical_path(timeline)))
    if took is None:
        raise AssertionError(f"the switchover should take less than {seconds:g} s, but was not reached: {why}")
    if took >= seconds:
        raise AssertionError(f"the switchover should take less than {seconds:g} s, but took {took:.6g} s{path}")


def _timeline(recorded: Recorded) -> Timeline:
    if isinstance(recorded, Timeline):
        return recorded
    return build_timeline(recorded.events if isinstance(recorded, Recorder) else recorded)


def _find(timeline: Timeline, what: str, side: str | None, machine: str | None) -> list[Span]:
    name, _, detail = what.partition(": ")
    devices = {span.name for span in timeline.spans if span.kind in _OF_DEVICES}
    candidates = [
        span
        for span in timeline.spans
        if (span.kind in _OF_DEVICES if span.name in devices else span.kind is SpanKind.HANDLER)
        and side in (None, span.side)
        and machine in (None, span.machine)
    ]
    found = [span for span in candidates if fnmatchcase(span.name, name) and fnmatchcase(span.detail, detail or "*")]
    if not found:
        known = sorted({f"{span.name}: {span.detail}" for span in candidates})
        raise ValueError(f"nothing recorded matches {what!r}; there is: {', '.join(known) or 'nothing'}")
    return found


def _together(one: Span, other: Span) -> bool:
    return one.begun < other.ended and other.begun < one.ended


def _distance(one: Span, other: Span) -> int:
    return max(one.begun - other.ended, other.begun - one.ended)


def _explained(timeline: Timeline, spans: tuple[Span, ...], what: str) -> str:
    zero = min((span.start_ns for span in timeline.spans), default=0)
    lines = [f"  {_described(span, zero)}" for span in sorted(spans, key=lambda span: span.begun)]
    return "\n".join([what, *lines, sketch(timeline.spans, spans)])


def _described(span: Span, zero: int) -> str:
    times = f"{(span.start_ns - zero) / 1e6:.3f} to {(span.end_ns - zero) / 1e6:.3f} ms"
    events = f"events {span.begun} to {span.ended}"
    return f"{span.machine} {span.name}: {span.detail or span.kind} ({times}, {events}, thread {span.thread!r})"
