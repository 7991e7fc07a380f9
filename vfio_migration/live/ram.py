"""A machine's memory: counted, not sent byte by byte; a guest that runs dirties it."""

import struct
import threading

from vmstate import NS_PER_SECOND, LoadStream, Machine, MigrationEvent, RunState, SaveStream

_PIECE, _END = b"\x01", b"\x00"  # of a section: a size follows, or nothing more
_SIZE = struct.Struct(">Q")


class Ram:
    """
    Registers memory with a machine: `size` bytes, of which a live guest dirties `dirty_rate` a second (QEMU's `ram`).

    It is the first to migrate, whenever it was made. All of it is sent once; what was dirtied since then is known when
    it is asked for (`pending_exact`, QEMU's `migration_bitmap_sync`), not before.

    Raises:
        ValueError: a size or a rate makes no sense.
        RegistrationError: the machine has memory already, or is being migrated.

    """

    id = "ram"

    def __init__(self, machine: Machine, size: int, *, dirty_rate: float = 0.0) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise ValueError(f"size: expected bytes, 0 or more; got {size!r}")
        if not 0 <= dirty_rate < float("inf"):
            raise ValueError(f"dirty_rate: expected bytes per second, 0 or more; got {dirty_rate!r}")
        self.machine = machine
        self.size = size
        self.dirty_rate = dirty_rate
        # Of the migration under way; guarded by the big lock or handed on with it.
        self._known = 0  # bytes that are known to be dirty
        self._synced = 0  # bytes that were dirtied up to the last sync
        self.sent = 0
        # How long the guest has run: by a lock of its own, as pre-copy asks while somebody may stop the machine.
        self._running = threading.Lock()
        self._live_ns = 0  # since the first pass began, up to:
        self._live_since_ns: int | None = None
        with machine.big_lock:
            machine.register(self, first=True)
            machine.watch_run_state(self._note_run_state)
            self._live = machine.run_state.live

    def save_setup(self, stream: SaveStream) -> None:
        """Have all of it to send."""
        self._known, self._synced, self.sent = self.size, 0, 0
        with self._running:
            self._live_ns, self._live_since_ns = 0, None
        stream.write(_END)

    def begin_precopy(self) -> None:
        """Count what the guest dirties from now on."""
        with self._running:
            # Not the machine's run state, which is set after those that watch it have heard of it.
            self._live_since_ns = self.machine.clock.now() if self._live else None

    def pending(self) -> int:
        """Say how much is known to be dirty and was not sent."""
        return self._known

    def pending_exact(self) -> int:
        """Find out what is dirty by now."""
        total = int(self.dirty_rate * self._live_total_ns() / NS_PER_SECOND)
        self._known = min(self.size, self._known + total - self._synced)
        self._synced = total
        return self._known

    def save_iterate(self, stream: SaveStream) -> int:
        """Send as much of it as the iteration allows."""
        size = self._known if stream.budget is None else min(self._known, stream.budget)
        self._send(stream, size)
        return size

    def save_complete(self, stream: SaveStream) -> None:
        """Send what is dirty, now that the guest has stopped."""
        self._send(stream, self.pending_exact())

    def save_state(self, stream: SaveStream) -> None:
        """Send nothing more."""
        stream.write(_END)

    def save_cleanup(self) -> None:
        """Keep nothing."""

    def load_setup(self) -> None:
        """Need nothing."""

    def load(self, stream: LoadStream) -> None:
        """Read a piece's size; memory takes no time to load."""
        while stream.read(1) == _PIECE:
            stream.read(_SIZE.size)

    def load_complete(self) -> None:
        """Miss nothing: the stream's checksums say whether all has arrived."""

    def load_cleanup(self) -> None:
        """Keep nothing."""

    def notify(self, event: MigrationEvent) -> None:
        """Do nothing."""

    def reset(self) -> None:
        """Have nothing to reset: a guest that boots anew dirties its memory as before."""

    def _send(self, stream: SaveStream, size: int) -> None:
        if size:
            stream.carry(size)
            stream.write(_PIECE + _SIZE.pack(size))
            stream.stand_for(size)
            self._known -= size
            self.sent += size
        stream.write(_END)

    def _note_run_state(self, current: RunState, new: RunState) -> None:
        with self._running:
            now = self.machine.clock.now()
            self._live = new.live
            if current.live and not new.live and self._live_since_ns is not None:
                self._live_ns += now - self._live_since_ns
                self._live_since_ns = None
            elif new.live and not current.live:
                self._live_since_ns = now

    def _live_total_ns(self) -> int:
        with self._running:
            since = self._live_since_ns
            return self._live_ns + (self.machine.clock.now() - since if since is not None else 0)
