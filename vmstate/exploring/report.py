"""A failure for people: the threads as lanes, the lines where they switched, and who touched what last."""

import linecache
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType

from vmstate.exploring.accesses import accesses_of
from vmstate.exploring.chooser import Noted
from vmstate.exploring.schedule import Switch

_MOST_STEPS = 24  # of the lanes: the last ones are those that mattered
_MOST_ACCESSES = 8
_SKIPPED = (str(Path(__file__).parent), str(Path(__file__).parent.parent / "clocks"))


@dataclass(frozen=True)
class Access:
    """A thread is about to read or to write something that has a name."""

    thread: int
    how: str
    what: str
    where: str


@dataclass
class Witness:
    """Looks on while a schedule is run again: where each thread is when it stops, and what its lines touch."""

    stops: list[str] = field(default_factory=list)  # for each hand-over, in words
    accesses: list[Access] = field(default_factory=list)

    def stopped(self) -> None:
        """Note where the calling thread is."""
        self.stops.append(_line_of_caller())

    def line(self, thread: int, code: CodeType, line: int) -> None:
        """Note what a line touches."""
        where = f"{Path(code.co_filename).name}:{line}"
        self.accesses += [Access(thread, how, what, where) for how, what in accesses_of(code).get(line, ())]


def _line_of_caller() -> str:
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - whoever stopped is up there
    while frame is not None and frame.f_code.co_filename.startswith(_SKIPPED):
        frame = frame.f_back
    if frame is None:
        return ""
    name, line = frame.f_code.co_filename, frame.f_lineno
    return f"{Path(name).name}:{line} {linecache.getline(name, line).strip()}".strip()


def report(noted: Noted, witness: Witness, cause: BaseException) -> str:
    """Say what failed, and draw how it came to that."""
    switches = noted.switches[: noted.switches_of_failure]
    lines = [f"{type(cause).__name__}: {cause}", "", _counted(switches), *_lanes(noted, witness)]
    shared = _shared(noted, witness)
    if shared:
        lines += ["last accesses to what more than one thread touches:", *shared]
    return "\n".join(lines)


def _counted(switches: Sequence[Switch]) -> str:
    if not switches:
        return "no switch is needed, it fails in the usual order; where each thread stopped:"
    return f"{len(switches)} switch{'es' if len(switches) > 1 else ''}, marked *; where each thread stopped:"


def _lanes(noted: Noted, witness: Witness) -> list[str]:
    """Draw a lane for each thread: a mark where it stops, and beside it the line; the next row is of who goes on."""
    handovers = list(enumerate(noted.handovers[: noted.handovers_of_failure]))
    shown = handovers[-_MOST_STEPS:]
    threads = sorted(({each.thread for _, each in shown} | {each.to for _, each in shown}) - {-1})
    names = {thread: noted.names.get(thread, "?") for thread in threads}
    rows = ["  " + "  ".join(names.values())]
    if len(handovers) > len(shown):
        rows.append(f"  ({len(handovers) - len(shown)} hand-overs before these)")
    for number, each in shown:
        if each.thread not in names:
            continue
        mark = "*" if each.switched else "o"
        lanes = "  ".join((mark if thread == each.thread else "|").center(len(names[thread])) for thread in threads)
        where = "ends" if each.place == "end" else witness.stops[number]
        rows.append(f"  {lanes}  {where}")
    return rows


def _shared(noted: Noted, witness: Witness) -> list[str]:
    by_name: dict[str, list[Access]] = {}
    for access in witness.accesses:
        by_name.setdefault(access.what, []).append(access)
    mattered = [
        access
        for access in witness.accesses
        if len({each.thread for each in by_name[access.what]}) > 1
        and any(each.how == "writes" for each in by_name[access.what])
    ]
    return [
        f"  {noted.names.get(each.thread, '?')} {each.how} {each.what.lstrip('.')} at {each.where}"
        for each in mattered[-_MOST_ACCESSES:]
    ]
