"""
Where a thread is, in a word that means the same on every machine and in every version of Python.

A place in the code is its function's name and the line counted from the function's first, so that what stands above
it in the file may change. A place where it waits is what it waits for.
"""

import re
from functools import lru_cache
from types import CodeType

_UNFIT = re.compile(r"[^\w.+\[\]-]+")


@lru_cache(maxsize=65536)
def place_of_line(code: CodeType, line: int) -> str:
    """Name a line of a function."""
    function = code.co_qualname.replace(".<locals>", "").replace("<", "").replace(">", "")
    return fit(f"{function}+{line - code.co_firstlineno}")


@lru_cache(maxsize=65536)
def fit(text: str) -> str:
    """Write a text with letters, digits and few signs only, none of which a schedule's string needs for itself."""
    return _UNFIT.sub("_", text)
