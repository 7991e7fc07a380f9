"""How times, shares, names and arcs are worded."""

import pytest

from vfio_migration import DeviceState
from vfio_migration.wording import arc_name, arc_parts, listed, ms, parse_arc, percent, signed_ms

PREPARE = (DeviceState.PRE_COPY, DeviceState.PRE_COPY_P2P)


def test_times_are_milliseconds_with_one_decimal() -> None:
    assert [ms(0.707), ms(12.3456), ms(None), ms(0.0005, unit=""), ms(0.0012345, digits=3)] == [
        "707.0 ms",
        "12,345.6 ms",
        "-",
        "0.5",
        "1.234 ms",
    ]
    assert [signed_ms(0.02), signed_ms(-0.02), signed_ms(0.0)] == ["+20.0", "-20.0", "0.0"]
    assert [signed_ms(1e-17), signed_ms(-0.00004)] == ["0.0", "0.0"]  # a sign would promise a difference
    assert percent(0.1234) == "12.3 %"


def test_an_arc_is_read_as_it_is_written() -> None:
    assert arc_name(*PREPARE) == "PRE_COPY -> PRE_COPY_P2P"
    for text in (arc_name(*PREPARE), "PRE_COPY->PRE_COPY_P2P", "  PRE_COPY  ->PRE_COPY_P2P "):
        assert parse_arc(text, DeviceState) == PREPARE
    assert arc_parts("STOP") == ("STOP", "")


@pytest.mark.parametrize("text", ["", "STOP", "STOP ->", "-> STOP", "STOP -> HERE", "STOP -> STOP_COPY -> STOP"])
def test_what_is_no_arc_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an arc is written 'PRE_COPY -> PRE_COPY_P2P', with names of DeviceState"):
        parse_arc(text, DeviceState)


def test_lists_of_names_stay_short() -> None:
    assert listed([]) == ""
    assert listed(["a", "b", "c", "d"]) == "a, b, c, d"
    assert listed([str(number) for number in range(10_000)], "ids") == "0, 1, ..., 9999 (10,000 ids)"
