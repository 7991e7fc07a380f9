"""Timelines in the Chrome trace event format, which Perfetto and chrome://tracing open."""

from collections.abc import Collection, Mapping
from typing import Any

from vfio_migration.recorded.parts import holds_cost, part_lane
from vfio_migration.recorded.timeline import Span, SpanKind, Timeline

_ORDER = ("source", "destination")


def chrome_trace(timelines: Mapping[str, Timeline]) -> dict[str, Any]:
    """
    Give the JSON object of a trace file with one or several timelines, by what they are to be called.

    Each machine of a timeline is a process, each thread a thread, and each span a complete event ("X"; times in
    microseconds since the switchover began) with device, depth, side and seconds as arguments. What is sent, what is
    loaded and the fixed costs have lanes of their own, as if each channel and each device that loads were a thread;
    with the bytes, and how long it was at it.
    """
    events: list[dict[str, Any]] = []
    processes: dict[tuple[str, str], int] = {}
    threads: dict[tuple[int, str], int] = {}
    for title, timeline in timelines.items():
        written = _written_by_threads(timeline)
        zero_ns = timeline.start_ns or (timeline.spans[0].start_ns if timeline.spans else 0)
        for span in sorted(timeline.spans, key=lambda span: (_place(span), span.start_ns, -span.end_ns)):
            process = processes.setdefault((title, span.machine), len(processes) + 1)
            thread = threads.setdefault((process, _thread(span, written)), len(threads) + 1)
            events.append(_event(span, process, thread, zero_ns))
    names = [
        _metadata("process_name", process, 0, name=f"{title}: {machine}" if title else machine)
        for (title, machine), process in processes.items()
    ]
    names += [_metadata("process_sort_index", process, 0, sort_index=process) for process in processes.values()]
    names += [_metadata("thread_name", process, thread, name=name) for (process, name), thread in threads.items()]
    return {"traceEvents": names + events, "displayTimeUnit": "ms"}


def _place(span: Span) -> int:
    return _ORDER.index(span.side) if span.side in _ORDER else len(_ORDER)


def _written_by_threads(timeline: Timeline) -> set[str]:
    """Name the sections that stay in the thread that wrote them: of devices, whose parts have lanes, and of costs."""
    devices = {span.name for span in timeline.spans if span.kind is SpanKind.SAVE}
    costs = [span for span in timeline.spans if span.kind is SpanKind.COST]
    sections = (span for span in timeline.spans if span.kind is SpanKind.SECTION)
    return devices | {span.name for span in sections if holds_cost(span, costs)}


def _thread(span: Span, written: Collection[str]) -> str:
    lane = part_lane(span)
    if lane is None or (span.kind is SpanKind.SECTION and span.name in written):
        return span.thread
    return f"{lane.group} {lane.name}"


def _event(span: Span, process: int, thread: int, zero_ns: int) -> dict[str, Any]:
    arguments = {"device": span.name, "depth": span.depth, "side": span.side, "seconds": span.seconds}
    if span.kind is SpanKind.PHASE:
        arguments = {"side": span.side, "seconds": span.seconds}
    if span.size:
        arguments |= {"bytes": span.size, "busy_seconds": span.busy_s}
    return {
        "name": " ".join(filter(None, (span.name, span.detail))) or str(span.kind),
        "cat": str(span.kind),
        "ph": "X",
        "ts": (span.start_ns - zero_ns) / 1000,
        "dur": (span.end_ns - span.start_ns) / 1000,
        "pid": process,
        "tid": thread,
        "args": arguments,
    }


def _metadata(kind: str, process: int, thread: int, **arguments: object) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "ts": 0, "args": arguments}
