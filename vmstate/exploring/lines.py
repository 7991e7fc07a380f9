"""
Each line of some functions as a choice, without changing them.

From Python 3.12 on the interpreter tells of lines by `sys.monitoring`, before that by `sys.settrace`. Each has a file
of its own; what they have in common is here: which functions are meant, and what happens at a line.

A switch at a line is one just before it is run. So two threads can be stopped between any two lines of what is named.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import CodeType, ModuleType
from typing import Any, Protocol, Self

from vmstate.exploring.here import here
from vmstate.exploring.places import place_of_line

OnLine = Callable[[int, CodeType, int], object]

# The clock's own lines are run with its mutex held: who is stopped there stops everybody.
_NEVER = ("vmstate.clocks", "vmstate.exploring", "threading", "importlib")


class Watcher(Protocol):
    """Has `Lines.reached` called at each line that is meant, in the threads that have entered."""

    def start(self) -> None:
        """Begin to watch."""
        ...

    def stop(self) -> None:
        """End that."""
        ...

    def enter(self) -> None:
        """Have the calling thread watched."""
        ...

    def leave(self) -> None:
        """End that."""
        ...


class Lines(AbstractContextManager["Lines"]):
    """
    The lines of `preempt`, watched as long as the context lasts, in threads that `enter`.

    `preempt` are names: of a module or a package, or "module:function", "module:Class", "module:Class.method".
    """

    def __init__(self, preempt: tuple[str, ...]) -> None:
        self.on_line: OnLine | None = None  # told of each line that is about to be run
        self._meant = [each.partition(":")[::2] for each in preempt]
        self._known: dict[CodeType, bool] = {}
        self._watcher = _make_watcher(self) if preempt else None

    def means(self, code: CodeType, module: str | None = None) -> bool:
        """Whether the lines of a function are meant; without its module, whether it was found to be."""
        known = self._known.get(code)
        if known is None:
            if module is None:
                return False
            known = self._known[code] = self._is_meant(module, code.co_qualname)
        return known

    def _is_meant(self, module: str, function: str) -> bool:
        if function == "<module>" or any(_within(module, name) for name in _NEVER):
            return False
        return any(
            module == name and _within(function, part) if part else _within(module, name) for name, part in self._meant
        )

    def reached(self, code: CodeType, line: int) -> None:
        """Let others go on, or not, before the calling thread runs a line."""
        clock = here.clock
        if clock is not None:
            clock.checkpoint(place_of_line(code, line))
            if self.on_line is not None:
                self.on_line(here.number, code, line)

    def enter(self) -> None:
        """Watch the calling thread from now on."""
        if self._watcher is not None:
            self._watcher.enter()

    def leave(self) -> None:
        """Watch it no longer."""
        if self._watcher is not None:
            self._watcher.leave()

    def __enter__(self) -> Self:
        if self._watcher is not None:
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._watcher is not None:
            self._watcher.stop()


def _within(name: str, whole: str) -> bool:
    return name == whole or name.startswith(f"{whole}.")


def _make_watcher(lines: Lines) -> Watcher:
    if sys.version_info >= (3, 12):
        from vmstate.exploring.lines_monitored import MonitoredLines  # noqa: PLC0415 - needs what 3.11 has not

        return MonitoredLines(lines)
    from vmstate.exploring.lines_traced import TracedLines  # noqa: PLC0415

    return TracedLines(lines)


def names_of(preempt: object) -> tuple[str, ...]:
    """
    Give the names of what is to be preempted: modules, classes, functions, or such names.

    Raises:
        TypeError: something is none of these, or is not written in Python.

    """
    if isinstance(preempt, str) or not isinstance(preempt, Iterable):
        return (_name_of(preempt),)
    return tuple(_name_of(each) for each in preempt)


def _name_of(what: object) -> str:
    if isinstance(what, str):
        return what
    if isinstance(what, ModuleType):
        return what.__name__
    if isinstance(what, type):
        return f"{what.__module__}:{what.__qualname__}"
    if isinstance(what, functools.partial):
        return _name_of(what.func)
    if isinstance(what, property) and what.fget is not None:
        return _name_of(what.fget)
    function: Any = inspect.unwrap(what) if callable(what) else what
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        raise TypeError(
            f"preempt takes modules, classes and functions that are written in Python, or their names "
            f"('module', 'module:function'); got {what!r}"
        )
    return f"{function.__globals__['__name__']}:{code.co_qualname}"
