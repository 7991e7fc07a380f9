"""What a line of code reads and writes by name: attributes, globals, and variables of enclosing functions."""

import dis
from functools import lru_cache
from types import CodeType

# Where a name is in the instruction. Items of lists and dictionaries have no name; what they are items of does.
_READS = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_DEREF", "LOAD_GLOBAL", "LOAD_NAME"}
_WRITES = {"STORE_ATTR", "STORE_DEREF", "STORE_GLOBAL", "DELETE_ATTR", "DELETE_GLOBAL", "DELETE_DEREF"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR"}


@lru_cache(maxsize=4096)
def accesses_of(code: CodeType) -> dict[int, tuple[tuple[str, str], ...]]:
    """Give for each line of a function what it ("reads" or "writes", name) does; attributes begin with a dot."""
    found: dict[int, dict[tuple[str, str], None]] = {}
    lines = {offset: line for begin, end, line in code.co_lines() for offset in range(begin, end, 2)}
    for instruction in dis.get_instructions(code):
        how = "reads" if instruction.opname in _READS else "writes" if instruction.opname in _WRITES else ""
        line = lines.get(instruction.offset)
        if how and line is not None and isinstance(instruction.argval, str):
            dot = "." if instruction.opname in _ATTRIBUTES else ""
            found.setdefault(line, {})[how, f"{dot}{instruction.argval}"] = None
    return {line: tuple(each) for line, each in found.items()}
