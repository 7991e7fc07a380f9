"""Lines by `sys.settrace`: what there is before Python 3.12."""

import sys
from types import FrameType
from typing import Any

from vmstate.exploring.lines import Lines


class TracedLines:
    """
    Traces each thread that has entered.

    A trace function that was there before (coverage, a debugger) rests as long as the thread is in: the interpreter
    has room for one.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._before: Any = None

    def start(self) -> None:
        """Keep who traces the thread that explores."""
        self._before = sys.gettrace()

    def stop(self) -> None:
        """Give that back."""
        sys.settrace(self._before)

    def enter(self) -> None:
        """Trace the calling thread."""
        sys.settrace(self._called)

    def leave(self) -> None:
        """Trace it no longer."""
        sys.settrace(None)

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not self._lines.means(code, frame.f_globals.get("__name__", "")):
            return None
        frame.f_trace_lines = True
        return self._in_frame

    def _in_frame(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self._lines.reached(frame.f_code, frame.f_lineno)
        return self._in_frame
