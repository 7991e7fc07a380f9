"""
The string of a schedule: all that is needed to run a test again with its threads in the same order.

    vs1/any/pct/bank:Account/1@Account.add+2*1>2,0@end*1>3/14.5f3a9c01

Fields are separated by slashes: the version of this format; the timing; the policy that found it; what is preempted
(`-`: nothing); the switches; how many hand-overs there were up to the failure, and a checksum over them.

A switch is a thread's number (in the order of coming to the clock), the place where it stopped, which time it was
there, and the thread that went on. Only those are written where somebody else went on than usual. Usual is: who just
ran, if it can go on (but not a thousand times in a row); else who was woken first; else who sleeps shortest. Rejected:
a number for each choice. It is longer, and means something else as soon as there is one choice more: another version
of Python that visits a line twice would replay another schedule, and say nothing.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from vmstate.exploring.errors import ReplayError

VERSION = "vs1"
TIMINGS = ("exact", "any")
_SWITCH = re.compile(r"(\d+)@([^*>,/]+)\*(\d+)>(\d+)")
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Switch:
    """Somebody else went on than usual, where `thread` stopped at `place` for the `visit`-th time."""

    thread: int
    place: str
    visit: int
    to: int

    @property
    def where(self) -> tuple[int, str, int]:
        """What finds the switch again."""
        return self.thread, self.place, self.visit

    def __str__(self) -> str:
        return f"{self.thread}@{self.place}*{self.visit}>{self.to}"


@dataclass(frozen=True, slots=True)
class HandOver:
    """One thread stopped at a place, and another went on; `switched`: not who usually would have."""

    thread: int
    place: str
    to: int
    switched: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the string says."""

    switches: tuple[Switch, ...]
    timing: str = "exact"
    policy: str = "replay"
    preempt: tuple[str, ...] = ()
    handovers: int = 0
    checksum: str = ""

    def __str__(self) -> str:
        preempt = "+".join(self.preempt) or "-"
        switches = ",".join(map(str, self.switches)) or "-"
        return "/".join(
            (VERSION, self.timing, self.policy, preempt, switches, f"{self.handovers}.{self.checksum or '-'}")
        )


def checksum(handovers: Sequence[HandOver]) -> str:
    """Sum up who went on after whom, and where."""
    text = ",".join(f"{each.thread}@{each.place}>{each.to}" for each in handovers)
    return f"{zlib.crc32(text.encode()):08x}"


def parse_schedule(text: str) -> Schedule:
    """
    Read a schedule's string.

    Raises:
        ReplayError: it is none, or one of another version.

    """
    text = text.strip()
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    version, *fields = text.split("/")
    if re.fullmatch(r"vs\d+", version) and version != VERSION:
        raise ReplayError(f"{shown!r} is a schedule of version {version}; this one reads {VERSION}: find it anew")
    try:
        timing, policy, preempt, switches, ending = fields
        handovers, _, digest = ending.partition(".")
        if version != VERSION or timing not in TIMINGS or not digest:
            raise ValueError  # noqa: TRY301 - one text for whatever is wrong
        return Schedule(
            tuple(_switch(each) for each in switches.split(",") if each != "-"),
            timing,
            policy,
            tuple(each for each in preempt.split("+") if each != "-"),
            int(handovers),
            "" if digest == "-" else digest,
        )
    except ValueError:
        raise ReplayError(
            f"{shown!r} is no schedule: expected what a failure has shown, whole, such as "
            f"'{VERSION}/exact/pct/-/1@add+2*1>2/14.5f3a9c01'"
        ) from None


def _switch(text: str) -> Switch:
    found = _SWITCH.fullmatch(text)
    if found is None:
        raise ValueError(text)
    thread, place, visit, to = found.groups()
    return Switch(int(thread), place, int(visit), int(to))
