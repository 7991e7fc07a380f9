from vfio_migration.recorded.span_index import Beside, Holders, LastEnded
from vfio_migration.recorded.timeline import Span, SpanKind


def span(name: str, start: int, end: int, thread: str = "t") -> Span:
    return Span(SpanKind.ARC, name, "A -> B", "vm", thread, 1, start, end)


def test_the_last_that_ended_is_the_longest_of_those_that_ended_with_it() -> None:
    spans = [span("short", 5, 10), span("long", 0, 10), span("later", 10, 20)]
    ended = LastEnded(spans)
    assert [ended.before(moment) for moment in (9, 10, 19, 25)] == [None, spans[1], spans[1], spans[2]]


def test_a_part_is_found_in_its_own_thread_only() -> None:
    whole = span("whole", 0, 10)
    holders = Holders([whole, span("next", 10, 20)])
    assert holders.holding(span("part", 2, 10)) is whole
    assert holders.holding(span("across", 8, 12)) is None
    assert holders.holding(span("elsewhere", 2, 10, thread="u")) is None


def test_what_goes_on_at_the_same_time_is_found_however_long_ago_it_began() -> None:
    spans = [span("all along", 0, 100), span("over", 0, 10), span("beside", 40, 60), span("after", 70, 80)]
    beside = Beside(spans, lambda each: each.detail)
    assert [each.name for each in beside.overlapping(span("x", 50, 70))] == ["all along", "beside"]
