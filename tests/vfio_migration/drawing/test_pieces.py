from vfio_migration.drawing.pieces import seen
from vfio_migration.recorded.timeline import Span, SpanKind, Timeline


def sent(name: str, start_us: int, end_us: int) -> Span:
    thread = "channel 0"
    return Span(SpanKind.SEND, name, thread, "source", thread, None, start_us * 1000, end_us * 1000, "source", size=7)


def test_pieces_between_which_no_pause_could_be_seen_are_one_bar() -> None:
    pieces = [sent("vf0", at, at + 1500) for at in range(0, 20_000, 2000)]
    (bar, far) = seen(Timeline((*pieces, sent("vf0", 900_000, 950_000)), 0, 1_000_000_000))
    assert (bar.start_ns, bar.end_ns, bar.size, bar.busy_s) == (0, 19_500_000, 70, 0.015)
    assert far.size == 7


def test_pieces_of_devices_that_take_turns_on_a_channel_are_one_bar_where_each_would_be_a_stripe() -> None:
    wide = [sent(f"vf{at % 2}", at * 10_000, at * 10_000 + 10_000) for at in range(5)]
    assert len(seen(Timeline(tuple(wide), 0, 1_000_000_000))) == 5
    narrow = [sent(f"vf{at % 2}", at * 1000, at * 1000 + 900) for at in range(1000)]
    alone = sent("vf0", 1_000_000, 1_020_000)
    (bar, tail) = seen(Timeline((*narrow, alone), 0, 1_020_000_000))
    assert (bar.name, bar.size, tail.name) == ("devices in turn", 7000, "vf0")


def test_a_lane_in_which_nothing_could_be_seen_is_left_out() -> None:
    assert seen(Timeline((sent("vf0", 0, 90),), 0, 1_000_000)) == []
    assert seen(Timeline((sent("vf0", 0, 900),), 0, 1_000_000_000)) == []
    assert len(seen(Timeline((sent("vf0", 0, 1100),), 0, 1_000_000_000))) == 1
