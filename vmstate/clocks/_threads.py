"""Starting a thread, and what to say when the system refuses one."""

import threading
from collections.abc import Iterator
from pathlib import Path

_LIMIT_FILES = {
    "threads-max": "/proc/sys/kernel/threads-max",
    "max_map_count (two for each thread)": "/proc/sys/vm/max_map_count",
    "the control group's pids.max": "/sys/fs/cgroup/pids.max",
}


def start(thread: threading.Thread) -> None:
    """
    Start a thread.

    Raises:
        RuntimeError: the system refuses another thread; says how many there are and what limits are known.

    """
    try:
        thread.start()
    except RuntimeError as error:
        limits = ", ".join(f"{limit}: {value}" for limit, value in _limits()) or "unknown"
        raise RuntimeError(
            f"{error}: {threading.active_count()} threads run in this process; the system's limits: {limits}"
        ) from error


def _limits() -> Iterator[tuple[str, str]]:
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        pass
    else:
        limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        yield "ulimit -u", "none" if limit == resource.RLIM_INFINITY else str(limit)
    for limit_name, file in _LIMIT_FILES.items():
        try:
            yield limit_name, Path(file).read_text(encoding="ascii").strip()
        except OSError:
            continue
