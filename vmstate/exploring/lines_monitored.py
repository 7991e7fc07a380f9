"""Lines by `sys.monitoring`, from Python 3.12 on: functions that are not meant cost nothing after their first call."""

import sys
import threading
from types import CodeType

from vmstate.exploring.lines import Lines

if sys.version_info >= (3, 12):
    _monitoring = sys.monitoring
    _IDS = (4, 3, 5)  # those without a name of their own first; 0 to 2 are for debuggers, coverage and profilers

    class _Monitor:
        """The one tool of ours that the interpreter knows, however many explorations there are in this process."""

        def __init__(self) -> None:
            self._lock = threading.Lock()
            self._watching: list[Lines] = []
            self._id = -1
            self._local: list[CodeType] = []
            self.here = threading.local()  # .lines: those that the thread has entered

        def start(self, lines: Lines) -> None:
            with self._lock:
                self._watching.append(lines)
                if len(self._watching) == 1:
                    self._take_id()
                _monitoring.restart_events()  # what another exploration did not mean, this one may

        def _take_id(self) -> None:
            self._id = next((each for each in _IDS if _monitoring.get_tool(each) is None), -1)
            if self._id < 0:
                self._watching.clear()
                raise RuntimeError("lines cannot be watched: other tools have taken all places in sys.monitoring")
            _monitoring.use_tool_id(self._id, "vmstate.exploring")
            events = _monitoring.events
            _monitoring.register_callback(self._id, events.PY_START, self._begins)
            _monitoring.register_callback(self._id, events.LINE, self._line)
            _monitoring.set_events(self._id, events.PY_START)

        def stop(self, lines: Lines) -> None:
            with self._lock:
                self._watching.remove(lines)
                if self._watching:
                    return
                for code in self._local:
                    _monitoring.set_local_events(self._id, code, 0)
                self._local.clear()
                _monitoring.set_events(self._id, 0)
                for event in (_monitoring.events.PY_START, _monitoring.events.LINE):
                    _monitoring.register_callback(self._id, event, None)
                _monitoring.free_tool_id(self._id)

        def _begins(self, code: CodeType, offset: int) -> object:
            module = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 - the frame that begins
            meant = [lines for lines in tuple(self._watching) if lines.means(code, module)]
            if meant:
                self._local.append(code)
                _monitoring.set_local_events(self._id, code, _monitoring.events.LINE)
            return _monitoring.DISABLE

        def _line(self, code: CodeType, line: int) -> None:
            lines: Lines | None = getattr(self.here, "lines", None)
            if lines is not None and lines.means(code):
                lines.reached(code, line)

    _MONITOR = _Monitor()

    class MonitoredLines:
        """What one exploration has of the monitor."""

        def __init__(self, lines: Lines) -> None:
            self._lines = lines

        def start(self) -> None:
            """Begin to watch."""
            _MONITOR.start(self._lines)

        def stop(self) -> None:
            """End that."""
            _MONITOR.stop(self._lines)

        def enter(self) -> None:
            """Have the calling thread watched."""
            _MONITOR.here.lines = self._lines

        def leave(self) -> None:
            """End that."""
            _MONITOR.here.lines = None
