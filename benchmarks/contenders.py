"""
Ways to have many devices wait at the same time: ours, the least Python that does it, and what one would write.

Each is a context manager, made for a number of devices and the seconds that each waits, that gives a function to
be called for a cycle: four passes, as a stop and a start make them, in each of which every device waits. It calls
`mark` three times in each pass: before the first device is told, when all were told, and when all have come back.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

from vfio_migration import MockDevice, VFIODevice, VFIOMigration
from vmstate import Bus, Device, Machine, RunState, add_device_handler

Mark = Callable[[], None]
Cycle = Callable[[Mark], None]
Contender = Callable[[int, float], AbstractContextManager[Cycle]]

_PASSES = 4  # prepare and main, stopping and starting


@contextmanager
def machine(devices: int, seconds: float, *, threads: str) -> Iterator[Cycle]:
    """Stop and start a machine of ours, with mock devices at one depth."""
    marks: list[Mark] = []

    def callback(running: bool, state: RunState) -> None:
        marks[0]()

    measured = Machine("measured", run_state=RunState.RUNNING)
    bus = Bus("pcie.0")
    with ExitStack() as stack:
        for number in range(devices):
            device = VFIODevice(Device(f"vf{number}", bus), MockDevice(latency=seconds))
            stack.enter_context(VFIOMigration(measured, device, threads=threads))
        for adjust in (-2, 0, 2):
            add_device_handler(measured.handlers, Device("", bus), callback, prepare_cb=callback, adjust=adjust)

        def cycle(mark: Mark) -> None:
            marks[:] = [mark]
            measured.stop()
            measured.start()

        yield cycle


@contextmanager
def thread_sketch(devices: int, seconds: float) -> Iterator[Cycle]:
    """Start a thread for each device, then join them: the bare sketch of `per-change`."""

    def cycle(mark: Mark) -> None:
        for _ in range(_PASSES):
            mark()
            threads = []
            for _ in range(devices):
                thread = threading.Thread(target=time.sleep, args=(seconds,))
                thread.start()
                threads.append(thread)
            mark()
            for thread in threads:
                thread.join()
            mark()

    yield cycle


@contextmanager
def parked_sketch(devices: int, seconds: float) -> Iterator[Cycle]:
    """Have a thread for each device wait on a lock: the bare sketch of `parked`."""
    going = True

    def wait_for_work(go: threading.Lock, done: threading.Lock) -> None:
        while True:
            go.acquire()
            if not going:
                return
            time.sleep(seconds)
            done.release()

    parked = []
    for _ in range(devices):
        go, done = threading.Lock(), threading.Lock()
        go.acquire()
        done.acquire()
        thread = threading.Thread(target=wait_for_work, args=(go, done))
        thread.start()
        parked.append((go, done, thread))

    def cycle(mark: Mark) -> None:
        for _ in range(_PASSES):
            mark()
            for go, _, _ in parked:
                go.release()
            mark()
            for _, done, _ in parked:
                done.acquire()
            mark()

    yield cycle
    going = False
    for go, _, thread in parked:
        go.release()
        thread.join()


@contextmanager
def thread_pool(devices: int, seconds: float) -> Iterator[Cycle]:
    """Submit to a `ThreadPoolExecutor` with a worker for each device, kept for all passes."""
    with ThreadPoolExecutor(max_workers=devices) as pool:

        def cycle(mark: Mark) -> None:
            for _ in range(_PASSES):
                mark()
                futures = [pool.submit(time.sleep, seconds) for _ in range(devices)]
                mark()
                wait(futures)
                mark()

        yield cycle


@contextmanager
def to_thread(devices: int, seconds: float) -> Iterator[Cycle]:
    """
    Gather `asyncio.to_thread` calls, with a worker for each device.

    Its default pool would hold the devices up in rows of `min(32, CPUs + 4)`.
    """
    with ThreadPoolExecutor(max_workers=devices) as pool, asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(pool)

        async def passes(mark: Mark) -> None:
            for _ in range(_PASSES):
                mark()
                tasks = [asyncio.create_task(asyncio.to_thread(time.sleep, seconds)) for _ in range(devices)]
                await asyncio.sleep(0)  # they run as far as telling their threads
                mark()
                await asyncio.gather(*tasks)
                mark()

        yield lambda mark: runner.run(passes(mark))


CONTENDERS: dict[str, Contender] = {
    "thread sketch": thread_sketch,
    "per-change": partial(machine, threads="per-change"),
    "parked sketch": parked_sketch,
    "parked": partial(machine, threads="parked"),
    "ThreadPoolExecutor": thread_pool,
    "asyncio.to_thread": to_thread,
}
