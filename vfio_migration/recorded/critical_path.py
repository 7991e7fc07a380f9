"""The critical path: the chain of spans that makes a switchover as long as it is."""

from dataclasses import dataclass, replace

from vfio_migration.recorded.parts import holds_cost, part_lane, parts
from vfio_migration.recorded.span_index import Beside, Holders, LastEnded
from vfio_migration.recorded.timeline import Span, SpanKind, Timeline
from vfio_migration.wording import listed, ms, percent

# A device is as slow as another if its span is at least so much of the other's.
_ALIKE = 0.95
# What is loaded so soon after something else, by the shorter one's length, has waited for that, and not to arrive.
_PAUSE = 0.05
MOST = 6  # links that are shown, unless all are asked for


@dataclass(frozen=True)
class Link:
    """
    One link of the chain: a span, or (None) the time between two.

    `also` names the devices for which the same took as long at the same time: the switchover is no shorter
    unless they are faster too. `in_turn` names those that did it one after another, where links were put together.
    `share` is of the whole switchover, 0 to 1.
    """

    span: Span | None
    seconds: float
    share: float
    also: tuple[str, ...] = ()
    in_turn: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """Who does what, in words."""
        return "all the rest" if self.span is None else _described(self, self.span)

    def __str__(self) -> str:
        return f"{self.what}, {ms(self.seconds)}, {percent(self.share)} of the switchover"


def critical_path(timeline: Timeline) -> tuple[Link, ...]:
    """
    Give the links in order of time; together they are as long as the switchover. Empty if that was not reached.

    It is followed from the end: what was waited for last, then what that had to wait for. Within one device's change
    an arc waits for the one before; a change, a handler and a transfer wait for whatever ended last before them. What
    is loaded waits for what was loaded before it, or else to be sent.
    """
    if timeline.start_ns is None or timeline.end_ns is None:
        return ()
    chain = _Chain(timeline)
    total_ns = max(1, timeline.end_ns - timeline.start_ns)
    links: list[Link] = []
    moment_ns = timeline.end_ns
    before: Span | None = None
    while (span := chain.waited_for(moment_ns, before)) is not None:
        _add_gap(links, moment_ns - span.end_ns, total_ns)
        length_ns = span.end_ns - span.start_ns
        links.append(Link(span, length_ns / 1e9, length_ns / total_ns, chain.alike(span)))
        moment_ns, before = span.start_ns, span
    _add_gap(links, moment_ns - timeline.start_ns, total_ns)
    return tuple(reversed(links))


def condensed(path: tuple[Link, ...], most: int | None = MOST) -> tuple[Link, ...]:
    """
    Give the chain in at most so many links, the longest ones, and a last one for all the rest; None: in all of them.

    What several devices do in turn (the same arc at the same depth; transfers) becomes one link.
    """
    groups: dict[object, list[Link]] = {}
    for link in path:
        if link.span is not None:
            groups.setdefault(_sort_of(link.span), []).append(link)
    joined = [_joined(group) for group in groups.values()]
    # Of links that are as long as each other, the earlier stays.
    ranked = sorted(range(len(joined)), key=lambda place: -joined[place].seconds)[:most]
    kept = [joined[place] for place in sorted(ranked)]
    seconds = sum(link.seconds for link in path) - sum(link.seconds for link in kept)
    share = sum(link.share for link in path) - sum(link.share for link in kept)
    return (*kept, Link(None, seconds, share)) if share > _NEGLIGIBLE else tuple(kept)


_NEGLIGIBLE = 0.0005


def _sort_of(span: Span) -> object:
    """Give what spans have in common that are worth one line."""
    if span.kind is SpanKind.ARC:
        return span.kind, span.detail, span.depth, span.side
    alike = span.kind in (SpanKind.SAVE, SpanKind.LOADER, SpanKind.LOAD, SpanKind.CONFIG)
    return (span.kind,) if alike else (span.kind, span.name, span.detail, span.side)


def _joined(group: list[Link]) -> Link:
    first = group[0]
    if len(group) == 1:
        return first
    names = dict.fromkeys(link.span.name for link in group if link.span is not None)
    also = tuple(dict.fromkeys(name for link in group for name in link.also if name not in names))
    seconds, share = sum(link.seconds for link in group), sum(link.share for link in group)
    return Link(first.span, seconds, share, also, tuple(names))


_LOADS = (SpanKind.LOADER, SpanKind.LOAD, SpanKind.CONFIG)


class _Chain:
    """What the path is followed through: all that is done in a switchover, found without looking at all of it."""

    def __init__(self, timeline: Timeline) -> None:
        spans = timeline.switchover()
        work = _work(spans, parts(timeline))
        self._ended = LastEnded(work)
        self._ended_but_loads = LastEnded(span for span in work if span.kind not in _LOADS)
        self._saves = [span for span in work if span.kind is SpanKind.SAVE]
        self._changes = Holders(span for span in spans if span.kind is SpanKind.CHANGE)
        self._in_change: dict[int, list[Span]] = {}
        for span in work:
            change = self._changes.holding(span)
            if change is not None:
                self._in_change.setdefault(id(change), []).append(span)
        self._arcs = Beside((span for span in work if span.kind is SpanKind.ARC), _sort_of)

    def waited_for(self, moment_ns: int, after: Span | None) -> Span | None:
        """Give what had to end before `after`, which began at that moment, could begin."""
        change = None if after is None else self._changes.holding(after)
        if change is not None:
            earlier = [span for span in self._in_change.get(id(change), ()) if span.end_ns <= moment_ns]
            if earlier:
                return max(earlier, key=lambda span: span.end_ns)
            moment_ns = change.start_ns
        # Of those that end at the same moment, the one that began first was the longest wait.
        found = self._ended.before(moment_ns)
        if after is None or after.kind not in _LOADS:
            return found
        if found is not None and (found.kind in _LOADS or found.end_ns == moment_ns):
            shorter_ns = min(each.end_ns - each.start_ns for each in (found, after))
            if moment_ns - found.end_ns <= _PAUSE * shorter_ns:
                return found
        return self._being_sent(after.name, moment_ns) or self._ended_but_loads.before(moment_ns)

    def _being_sent(self, name: str, moment_ns: int) -> Span | None:
        """Give a device's transfer up to a moment at which it is still under way."""
        for span in self._saves:
            if span.name == name and span.start_ns < moment_ns < span.end_ns:
                return replace(span, end_ns=moment_ns)
        return None

    def alike(self, span: Span) -> tuple[str, ...]:
        """Give the other devices for which the same arc took as long at the same time."""
        if span.kind is not SpanKind.ARC:
            return ()
        beside = self._arcs.overlapping(span)
        names = (each.name for each in beside if each.name != span.name and each.seconds >= _ALIKE * span.seconds)
        return tuple(dict.fromkeys(names))


def _work(spans: tuple[Span, ...], beside: list[Span]) -> list[Span]:
    """
    Give the spans in which something is done, none a part of another: arcs, transfers, handlers, and what is `beside`.

    That a device's state is sent is a part of its transfer.
    """
    saves = [span for span in spans if span.kind is SpanKind.SAVE and span.end_ns > span.start_ns]
    in_save = Holders(saves)
    devices = {span.name for span in spans if span.kind is SpanKind.CHANGE}
    costs = [span for span in beside if span.kind is SpanKind.COST]
    arcs = [span for span in spans if span.kind is SpanKind.ARC and in_save.holding(span) is None]
    handlers = [
        span
        for span in spans
        if span.kind is SpanKind.HANDLER and span.name not in devices and not holds_cost(span, costs)
    ]
    other = [span for span in beside if span.kind is not SpanKind.SEND]
    return [span for span in (*saves, *arcs, *handlers, *other) if span.end_ns > span.start_ns]


def _add_gap(links: list[Link], length_ns: int, total_ns: int) -> None:
    if length_ns > 0:
        links.append(Link(None, length_ns / 1e9, length_ns / total_ns))


def _described(link: Link, span: Span) -> str:
    what = _WORDS.get(span.kind, span.detail)
    if span.kind is SpanKind.HANDLER:
        what = f"handler, {span.detail} pass on the {span.side}"
    lane = part_lane(span)
    # Memory is known by another name than its section's.
    name = lane.name if lane is not None and span.kind is SpanKind.SECTION else span.name
    who = f"{listed(link.in_turn)} in turn" if len(link.in_turn) > 1 else name or "unnamed"
    return f"{who}{f' (beside {listed(link.also)})' if link.also else ''}: {what}"


_WORDS = {
    SpanKind.SAVE: "state transferred",
    SpanKind.SECTION: "sent",
    SpanKind.LOADER: "loaded",
    SpanKind.LOAD: "state loaded",
    SpanKind.CONFIG: "configuration loaded",
    SpanKind.COST: "fixed cost of a phase",
}
