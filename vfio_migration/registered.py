"""A VFIO device registered with its machine: handlers, notifier, and its part of the migration stream."""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

from vfio_migration.changes import (
    DEFAULT_THREADS,
    THREADS,
    DeviceThread,
    InitialAcks,
    MultifdThreads,
    Packet,
    PacketQueue,
    StaleChangeError,
    StateChange,
    StateChangeThread,
    StateSetter,
    Transferred,
    Watchdog,
    make_launcher,
)
from vfio_migration.device import CHUNK, Counted, DeviceState, StateBytes, VFIODevice
from vfio_migration.errors import DeviceBusyError, DeviceLostError, StreamError, VFIOMigrationError, named
from vfio_migration.strategies import DEFAULT_STRATEGY, PassWalk, Strategy, strategy_named
from vmstate import (
    Bracket,
    ChannelClosedError,
    HandlerEntry,
    LoadStream,
    Machine,
    MigrationEvent,
    PassKind,
    RegistrationError,
    SaveStream,
    add_device_handler,
    get_logger,
)

# QEMU's words between the parts of a device's section (`VFIO_MIG_FLAG_*`).
_END_OF_STATE = 0xFFFFFFFFEF100001
_CONFIG = 0xFFFFFFFFEF100002
_SETUP = 0xFFFFFFFFEF100003
_DATA = 0xFFFFFFFFEF100004
_INITIAL_DATA_SENT = 0xFFFFFFFFEF100005  # ends a section in place of the end, once the initial bytes are gone
# Ours, and no word of QEMU's: data of which only the size travels. Then come that size, and as of any data the length
# and the bytes of what stands for it.
_COUNTED = 0xFFFFFFFFEF1000F4
_WORD = struct.Struct(">Q")
_IN_PRE_COPY = (DeviceState.PRE_COPY, DeviceState.PRE_COPY_P2P)


class VFIOMigration:
    """
    Registers a VFIO device with its machine: its handlers, its notifier and its state.

    Made for a machine and a `VFIODevice`; `close`, or the end of the context, takes the device away again.
    `threads` says how a state-change thread comes about: "per-change", a new one at each launch, or "parked", one
    that waits for the next launch as long as the device is registered. `watchdog` says what happens if it takes
    long (nothing unless given). `launch_s` and `join_s` are what launching a thread and joining it cost the thread that
    walks, in seconds, beside what they cost for real. A device begins in RUNNING.

    Raises:
        RegistrationError: the machine has a device of this id, or is being migrated; or the backend drives
            another device.
        BigLockError: made in a state-change thread.
        ValueError: `threads` names no way to have threads.
        RuntimeError: `threads` is "parked", and the system has no thread for it.
        OSError: the device had to be reset first, and that failed.

    """

    def __init__(
        self,
        machine: Machine,
        vfio_device: VFIODevice,
        *,
        threads: str = DEFAULT_THREADS,
        watchdog: Watchdog | None = None,
        launch_s: float = 0.0,
        join_s: float = 0.0,
    ) -> None:
        self.machine = machine
        self.vfio_device = vfio_device
        self._setter = StateSetter(machine, vfio_device)
        change = StateChange(machine, vfio_device, self._setter)
        self._closed = False
        # Of the migration under way; guarded by the big lock or handed on with it.
        self._transfer = Transferred()
        self._state_complete = False
        self._in_thread = False  # saved, or loaded, by a thread of its own
        self._acks: InitialAcks | None = None
        with machine.big_lock, ExitStack() as undo:
            vfio_device.backend.bind(machine.clock)
            undo.callback(vfio_device.backend.unbind)
            self._walk = _walk_of(machine)
            machine.register(self)
            undo.callback(machine.unregister, self)
            if vfio_device.backend.state is not DeviceState.RUNNING:
                vfio_device.backend.reset()  # as when the kernel opens a device
            # A device that changes serially needs no thread to be kept for it.
            way = threads if vfio_device.migration_parallel_states or threads not in THREADS else DEFAULT_THREADS
            self._launcher = make_launcher(way, machine.clock, vfio_device.id)
            undo.callback(self._launcher.close)
            self._thread = DeviceThread(vfio_device.id, self._launcher, machine.big_lock, watchdog)
            self._changes = StateChangeThread(
                self.id, change, self._thread, self._walk, launch_s=launch_s, join_s=join_s
            )
            self._multifd = MultifdThreads(machine, self.id, self._setter, self._thread, self._failing)
            self._registered = self._register_handlers(change)
            undo.pop_all()

    @property
    def id(self) -> str:
        """The device's id, by which it is paired."""
        return self.vfio_device.id

    @property
    def device_state(self) -> DeviceState:
        """The state that QEMU believes the device to be in; ERROR if the device is lost."""
        return self._setter.device_state

    @property
    def recoveries(self) -> int:
        """How often the device was recovered by a reset, and so has lost the guest's state, since it was registered."""
        return self._setter.recoveries

    @property
    def transferred(self) -> int:
        """How many bytes of the device's state were sent in the last migration, or are by now."""
        return self._transfer.carried

    def reset(self) -> None:
        """Be reset with the machine: that changes the device, and not what QEMU has recorded of it."""
        self._setter.reset_unrecorded()

    def close(self) -> None:
        """
        Take the device away from its machine: entries, notifier and all; a second time does nothing.

        Raises:
            DeviceBusyError: a thread of it changes its state, or a migration is under way.

        """
        with self.machine.big_lock:
            if self._closed:
                return
            if self._thread.launched:
                raise DeviceBusyError(
                    f"device {self.id!r} cannot be taken away while a thread changes its state: "
                    "do it after start() or stop() has returned"
                )
            try:
                self.machine.unregister(self)
            except RegistrationError as error:
                raise DeviceBusyError(str(error)) from error
            self._registered.remove()
            self._changes.leave()
            self._launcher.close()
            self.vfio_device.backend.unbind()
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<VFIOMigration {self.id!r} of machine {self.machine.name!r}: {self.device_state.name}>"

    def _register_handlers(self, change: StateChange) -> Bracket | HandlerEntry:
        device, changes, handlers = self.vfio_device, self._changes, self.machine.handlers
        if device.migration_parallel_states:
            bracket = Bracket(handlers, device.device, changes, prepare=device.p2p, on_sit_out=changes.sit_out)
            changes.take_part(bracket, device.device.depth, prepares=device.p2p)
            return bracket
        return add_device_handler(
            handlers,
            device.device,
            lambda running, state: change.change(PassKind.MAIN, running, state),
            prepare_cb=(
                (lambda running, state: change.change(PassKind.PREPARE, running, state)) if device.p2p else None
            ),
        )

    # The source's side (`vmstate.Migratable`; QEMU's `vfio_save_*`):

    def settle(self, *, multifd_channels: int, switchover_ack: bool) -> None:
        """
        Take what was asked for of the migration that begins, before its set-up.

        Raises:
            VFIOMigrationError: the device is to be saved by a thread of its own, and there are no channels for that.

        """
        wish = self.vfio_device.migration_multifd_transfer
        if wish is True and not multifd_channels:
            raise VFIOMigrationError(
                f"device {self.id!r} has multifd transfer on, and the migration has no multifd channels: give some, or "
                "set migration_multifd_transfer to 'auto' or off"
            )
        self._in_thread = bool(wish) and multifd_channels > 0
        self._acks = InitialAcks(self.id, self.vfio_device.backend) if switchover_ack else None

    @property
    def in_thread(self) -> bool:
        """Whether it is saved by a thread of its own, in the migration under way."""
        return self._in_thread

    @property
    def acks_asked(self) -> int:
        """How many acknowledgements the source has to wait for because of this device."""
        return 0 if self._acks is None else self._acks.asked

    def save_setup(self, stream: SaveStream) -> None:
        """Go to PRE_COPY, if the device can and runs."""
        self._transfer = Transferred()
        self._setter.session.close()
        if self._setter.lost:
            raise DeviceLostError(f"device {self.id!r} is lost and cannot be migrated: take it away")
        if self.vfio_device.precopy:
            if self.device_state is DeviceState.RUNNING:
                with self._failing("the set-up"):
                    self._setter.set_state(DeviceState.PRE_COPY, DeviceState.RUNNING)
            elif self.device_state is not DeviceState.STOP:
                raise VFIOMigrationError(
                    f"device {self.id!r} cannot be saved from {self.device_state.name}: "
                    "it must be RUNNING, or STOP in a stopped machine"
                )
        if self._acks is not None and self.device_state in _IN_PRE_COPY:
            self._acks.begin()
        stream.write(_WORD.pack(_SETUP) + _WORD.pack(_END_OF_STATE))

    def pending(self) -> int:
        """Bytes that pre-copy could send now."""
        if self.device_state not in _IN_PRE_COPY:
            return 0
        with self._failing("pre-copy"):
            if self._acks is not None:
                self._acks.look_again()
            return self.vfio_device.backend.pending()

    def pending_exact(self) -> int:
        """Bytes that would have to be sent if the device were stopped now, as far as it can say (MIG_DATA_SIZE)."""
        stop_size: Callable[[], int] | None = getattr(self.vfio_device.backend, "stop_size", None)
        if stop_size is None:
            return self.pending()
        with self._failing("the query of its size"):
            return stop_size()

    def save_iterate(self, stream: SaveStream) -> int:
        """Send what one read gives; says how much that was, 0 at the temporary end of pre-copy."""
        with self._failing("pre-copy"):
            sent: int | None = 0
            while sent == 0:  # framing of the device's own comes by itself, and is no state
                sent = self._save_data(stream)
        acks = self._acks
        all_sent = acks is not None and acks.sent()
        stream.write(_WORD.pack(_INITIAL_DATA_SENT if all_sent else _END_OF_STATE))
        return sent or 0

    @property
    def has_to_iterate(self) -> bool:
        """Whether the other side has to hear something before the stop, though there may be no data for it."""
        return self._acks is not None and self._acks.owed

    def begin_saving(self) -> None:
        """Look at the device for the last time before it is saved."""
        if self._acks is not None:
            self._acks.refuse_another()

    def launch_saving(
        self, send: Callable[[Sequence[Packet]], None], on_error: Callable[[BaseException], object]
    ) -> None:
        """Have a thread go to STOP_COPY and send all that is left, with the configuration; see `MultifdThreads`."""
        self._multifd.launch_saving(self._transfer, send, on_error)

    def join_saving(self) -> None:
        """Wait until it has; raises what went wrong."""
        self._multifd.join_saving()

    def save_complete(self, stream: SaveStream) -> None:
        """Go to STOP_COPY, if handlers have not brought the device there, and send all that is left."""
        if self._in_thread:
            stream.write(_WORD.pack(_END_OF_STATE))
            return
        self.machine.emit("vfio_save_complete_precopy_start", name=self.id)
        with self._failing("saving"):
            self._setter.set_state(DeviceState.STOP_COPY, DeviceState.STOP)
            self._setter.check_worth_saving()
            while self._save_data(stream) is not None:
                pass
        stream.write(_WORD.pack(_END_OF_STATE))
        self.machine.emit("vfio_save_complete_precopy", name=self.id, ret=0)

    def save_state(self, stream: SaveStream) -> None:
        """Send the device's configuration: how many bytes of data it takes to have all."""
        if not self._in_thread:
            stream.write(_WORD.pack(_CONFIG) + _WORD.pack(self._transfer.data_size))
        stream.write(_WORD.pack(_END_OF_STATE))

    def save_cleanup(self) -> None:
        """Go to STOP."""
        self._setter.session.close()
        if self.device_state is DeviceState.STOP_COPY:
            self.insist_on_stop("after the migration")

    def insist_on_stop(self, when: str) -> None:
        """
        Go to STOP, also if that took a reset, as a device must not run where its machine does not.

        One that cannot be stopped is lost; `when` says in the log when that was. Raises only what is no Exception.
        """
        fatal: BaseException | None = None
        for _ in range(2):
            try:
                self._setter.set_state_or_reset(DeviceState.STOP)
            except BaseException as error:  # noqa: BLE001 - it is over; nothing can fail it now
                if not isinstance(error, Exception):
                    fatal = fatal or error
                _log.error(
                    f"stopping {when} failed",
                    machine=self.machine.name,
                    device=self.id,
                    device_state=self.device_state.name,
                    error=str(error),
                )
            else:
                break
        else:
            if not self._setter.lost:
                self._setter.lose(f"it could not be stopped {when}")
        if fatal is not None:
            raise fatal

    def _save_data(self, stream: SaveStream) -> int | None:
        """Send what one read gives; says how many bytes of state that were, None if there was nothing to read."""
        data = self._setter.read(CHUNK)
        if not data:
            return None
        self._transfer.data_size += len(data)
        size = data.stands_for if isinstance(data, StateBytes) else len(data)
        self._traced_piece("vfio_save_block", lambda: stream.carry(size), data_size=size)
        self._transfer.carried += size
        head = _WORD.pack(_DATA)
        if isinstance(data, Counted):
            head = _WORD.pack(_COUNTED) + _WORD.pack(size)
            stream.stand_for(size - len(data))
        stream.write(head + _WORD.pack(len(data)))
        stream.write(data)
        return size

    # The destination's side (QEMU's `vfio_load_*`):

    def load_setup(self) -> None:
        """Go to RESUMING, from RUNNING: a device that an earlier migration left elsewhere is reset first."""
        self._transfer = Transferred()
        self._state_complete = self._in_thread = False
        if self.device_state is not DeviceState.RUNNING:
            self._setter.reset()
        self._setter.session.close()
        with self._failing("the set-up of loading"):
            self._setter.set_state(DeviceState.RESUMING, self.device_state)

    def load(self, stream: LoadStream) -> None:
        """Read one section of this device."""
        while True:
            word = self._read_word(stream)
            if word == _END_OF_STATE:
                return
            if word == _INITIAL_DATA_SENT and self._acks is not None:
                stream.acknowledge(self.id)
                return
            if self._state_complete:
                raise self._stream_error(stream, "data after the device's configuration")
            if word in (_DATA, _COUNTED):
                self._load_data(stream, self._read_word(stream) if word == _COUNTED else None)
            elif word == _CONFIG:
                self._load_config(stream)
            elif word != _SETUP:
                raise self._stream_error(stream, f"expected a marker between parts of the state, got 0x{word:016x}")

    def load_complete(self) -> None:
        """Raise unless the whole state has arrived."""
        if not self._state_complete:
            raise StreamError(f"device {self.id!r}: the stream ended before the device's state was complete")
        if self._setter.lost:
            raise DeviceLostError(f"device {self.id!r} was lost while it was loaded: take it away")
        with self._failing("loading"):
            self._setter.session.check()  # a reset meanwhile has emptied it; closed with the next set-up

    def load_cleanup(self) -> None:
        """Leave RESUMING by a reset, so that nothing half loaded can ever run."""
        self._setter.session.close()
        if self.device_state is DeviceState.RESUMING:
            try:
                self._setter.reset()
            except VFIOMigrationError as error:
                _log.error("clean-up failed", machine=self.machine.name, device=self.id, error=str(error))

    def _load_data(self, stream: LoadStream, stands_for: int | None) -> None:
        size = self._read_word(stream)
        if not 0 < size <= CHUNK:
            raise self._stream_error(stream, f"expected 1 to {CHUNK} bytes of data, the stream announces {size}")
        data = stream.read(size)
        self._transfer.data_size += size
        if stands_for is not None:
            data = Counted(data, stands_for)
        try:
            self._traced_piece(
                "vfio_load_state_device_data",
                lambda: self._setter.write(data),
                size=size if stands_for is None else stands_for,
                ret=0,
            )
        except OSError as error:
            raise self._stream_error(stream, f"the device refused the data: {error}") from error

    def _load_config(self, stream: LoadStream) -> None:
        size = self._read_word(stream)
        if size != self._transfer.data_size:
            raise self._stream_error(
                stream,
                f"{self._transfer.data_size} bytes of the device's data have arrived, the source has sent {size}",
            )
        self._complete_state()

    def launch_loading(self, packets: PacketQueue) -> None:
        """
        Have a thread load what arrives over the channels.

        Raises:
            StreamError: the device is not to be loaded like that.

        """
        if self.vfio_device.migration_multifd_transfer is False:
            raise StreamError(f"device {self.id!r} has multifd transfer off here, and its state comes over channels")
        self._multifd.launch_loading(self._transfer, packets, self._complete_state)

    def join_loading(self) -> None:
        """Wait until it has; raises what went wrong."""
        self._multifd.join_loading()

    def _complete_state(self) -> None:
        load_config: Callable[[], None] | None = getattr(self.vfio_device.backend, "load_config", None)
        if load_config is not None:
            with self.machine.big_lock, self._failing("loading the configuration"):
                self.machine.emit("vfio_load_device_config_state_start", name=self.id)
                load_config()
                self.machine.emit("vfio_load_device_config_state_end", name=self.id)
        self._state_complete = True

    def _traced_piece(self, event: str, do: Callable[[], object], **fields: int) -> None:
        """
        Send or load a piece of the state, and tell of it when that is over, as QEMU does; with when it began.

        Not of one that took no time: where there is no link, and loading is free, a trace would be full of them.
        """
        if not self.machine.traced:
            do()
            return
        began_ns = self.machine.clock.now()
        do()
        if self.machine.clock.now() != began_ns:
            self.machine.emit(event, name=self.id, **fields, began_ns=began_ns)

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """Have errors name the device, and what it failed in."""
        try:
            yield
        except (ChannelClosedError, StaleChangeError):
            raise  # of the stream; and of a change that nobody waits for
        except (OSError, VFIOMigrationError) as error:
            raise named(error, self.id, f"{what} in machine {self.machine.name!r}") from error

    def _read_word(self, stream: LoadStream) -> int:
        word: int = _WORD.unpack(stream.read(_WORD.size))[0]
        return word

    def _stream_error(self, stream: LoadStream, what: str) -> StreamError:
        return StreamError(f"device {self.id!r}, offset {stream.offset}: {what}")

    # The notifier (QEMU's `vfio_migration_state_notifier`):

    def notify(self, event: MigrationEvent) -> None:
        """Bring the device back to RUNNING when the migration has failed."""
        self.machine.emit("vfio_migration_state_notifier", name=self.id, state=int(event))
        if event is not MigrationEvent.FAILED:
            return
        self._setter.session.close()
        try:
            self._setter.set_state_or_reset(DeviceState.RUNNING)
        except Exception as error:  # noqa: BLE001 - the others still have to hear it
            _log.error(
                "going back to RUNNING failed",
                machine=self.machine.name,
                device=self.id,
                device_state=self.device_state.name,
                error=str(error),
            )


def devices_of(machine: Machine) -> list[VFIOMigration]:
    """Give the VFIO devices that are registered with a machine, in their order."""
    return [each for each in machine.migratables if isinstance(each, VFIOMigration)]


def use_strategy(machine: Machine, strategy: str | Strategy) -> None:
    """
    Have the passes of a machine treat its VFIO devices so from now on: those that are there, and those to come.

    `strategy` is a name, `serial`, `depths` (what a machine has that was never told), `overlapping` or `pool:N`; or a
    strategy of your own. Devices with `migration_parallel_states` off stay serial under each.

    Raises:
        ValueError: there is no strategy of this name.
        NestedNotificationError: called from a handler of this machine; nothing was changed.
        BigLockError: called from a state-change thread of this machine; nothing was changed.

    """
    chosen = strategy_named(strategy) if isinstance(strategy, str) else strategy
    with machine.handlers.changing("choose another strategy for"):
        _STRATEGIES[machine] = chosen
        for device in devices_of(machine)[:1]:
            device._walk.strategy = chosen  # noqa: SLF001 - of this module


def strategy_of(machine: Machine) -> Strategy:
    """Give the strategy by which passes treat a machine's VFIO devices."""
    return _STRATEGIES.get(machine, DEFAULT_STRATEGY)


def _walk_of(machine: Machine) -> PassWalk:
    """Give what the devices of a machine share: that of those that are there, or a new one."""
    for device in devices_of(machine):
        return device._walk  # noqa: SLF001 - of this module
    return PassWalk(strategy_of(machine), machine.handlers)


# Not the walks themselves: their handlers hold the machine, and it would never be forgotten.
_STRATEGIES: WeakKeyDictionary[Machine, Strategy] = WeakKeyDictionary()


_log = get_logger("vfio_migration.registered")
