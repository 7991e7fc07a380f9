"""
Where forecasts, sweeps and explorations are worked out: in this process, in several of this machine, or by Dask.

Work is cut into pieces that take far longer than handing them out. What comes back is put in the order of the pieces,
so that results are the same bytes wherever they were worked out. A piece whose worker died is worked out again.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from vfio_migration.errors import VFIOMigrationError
from vmstate import uncut

_Piece = TypeVar("_Piece")
_Found = TypeVar("_Found")
PROCESSES = "processes"
DASK = "dask:"
_TRIES = 3


class EngineError(VFIOMigrationError):
    """There is no such engine, it cannot be reached, or its workers keep dying."""


@contextmanager
def engine(name: str | None) -> Iterator[Callable[[], Executor] | None]:
    """
    Give what makes executors: "processes", or "dask:ADDRESS" of a scheduler; None: none is needed.

    Raises:
        EngineError: there is no such engine, or it cannot be reached; the message says what to do.

    """
    if name is None:
        yield None
    elif name == PROCESSES:
        # Spawned, not forked: this process may have threads, whose locks a fork would copy as they are.
        yield lambda: _Processes(os.cpu_count(), mp_context=get_context("spawn"))
    elif name.startswith(DASK) and name != DASK:
        yield from _dask(name.removeprefix(DASK))
    else:
        raise EngineError(f"{name!r}: expected 'processes', or 'dask:ADDRESS' with a scheduler's address")


class _Processes(ProcessPoolExecutor):
    """
    Processes that leave a Ctrl-C, which the terminal sends to all of them, to the one that hands out the work.

    They are started by `submit`. What is blocked then stays blocked in a process that is started, from its first
    instruction on. Rejected: an initializer that ignores it. Until that is called, a Ctrl-C would end a worker with a
    traceback.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand out a piece of work."""
        with _interrupts_later():
            return super().submit(fn, *args, **kwargs)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """
    Have a Ctrl-C come afterwards, and not at all in a process that is started meanwhile.

    Blocking is not enough for the former: the system may give the signal to any other thread, such as one of a library
    in C, and Python then raises it here all the same, with a process half started.
    """
    with uncut:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _dask(address: str) -> Iterator[Callable[[], Executor]]:
    try:
        from distributed import Client  # noqa: PLC0415 - heavy, and an extra
    except ImportError:
        raise EngineError("Dask is not installed: pip install 'vfio-switchover[dask]'") from None
    try:
        client = Client(address, timeout=10, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise EngineError(f"no Dask scheduler answers at {address!r}: {error}") from error
    with client:
        yield lambda: client.get_executor(retries=_TRIES, pure=False)  # type: ignore[no-untyped-call]


def in_order_of(
    work: Callable[[_Piece], _Found],
    pieces: Sequence[_Piece],
    make: Callable[[], Executor] | None,
    on_done: Callable[[int], object] = lambda _: None,
) -> list[_Found]:
    """
    Work out all pieces, and give what they come to in their order; `on_done` is called with the place of each.

    Raises:
        EngineError: a piece's workers died each time.
        KeyboardInterrupt: Ctrl-C; what was not begun never is.

    """
    if make is None:
        found = []
        for place, piece in enumerate(pieces):
            found.append(work(piece))
            on_done(place)
        return found
    done: dict[int, _Found] = {}
    for _ in range(_TRIES):
        left = [place for place in range(len(pieces)) if place not in done]
        if not left:
            break
        executor = make()
        futures: dict[Future[_Found], int] = {}
        try:
            futures.update((executor.submit(work, pieces[place]), place) for place in left)
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                on_done(futures[future])
        except BrokenExecutor:
            continue  # a worker died, and with it the pool: what is left is worked out by another one
        finally:
            for future in futures:  # not by `shutdown`: Dask's takes no `cancel_futures`
                future.cancel()
            executor.shutdown(wait=False)
    if len(done) < len(pieces):
        raise EngineError(f"workers died {_TRIES} times over the same work: is there enough memory?")
    return [done[place] for place in range(len(pieces))]
