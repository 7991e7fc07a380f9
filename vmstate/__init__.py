"""
QEMU's VM change state handlers: a machine, its run states, its device tree and its handlers.

Rules and words are those of QEMU 11.1. Importing this loads the standard library and structlog only.
"""

from vmstate.big_lock import BigLock
from vmstate.bracket import Bracket, BracketOwner
from vmstate.callback_errors import CallbackErrors, fails_a_test
from vmstate.clocks import (
    MOST_AHEAD,
    NS_PER_SECOND,
    WINDOW,
    Channel,
    ChannelClosedError,
    Clock,
    DeadlockError,
    Event,
    Explorer,
    InOrder,
    LocalChannel,
    Lock,
    Policy,
    RealClock,
    Runnable,
    SocketChannel,
    StalledError,
    VirtualClock,
    begin_ns,
    channel_pair,
    finite_or_none,
    seconds_to_ns,
    wait_until,
)
from vmstate.device_tree import Bus, Device, add_device_handler, depth_of_priority, device_priority
from vmstate.errors import (
    BigLockError,
    ClockError,
    DeviceNotFoundError,
    DeviceTreeError,
    InvalidTransitionError,
    NestedNotificationError,
    QtreeError,
    RegistrationError,
    StartRefusedError,
    VmStateError,
)
from vmstate.handlers import HandlerEntry, HandlerList, PassKind
from vmstate.interrupts import heard, take_interrupt, tell_of_interrupts, uncut, uncut_between_waits
from vmstate.log import get_logger
from vmstate.machine import Machine
from vmstate.migratable import Attempt, LoadStream, Migratable, MigrationEvent, SaveStream
from vmstate.monitor import Monitor, MonitorEvent, Subscription
from vmstate.qtree import DeviceTree, parse_qtree
from vmstate.run_state import RunState
from vmstate.trace import Recorder, StructlogSink, TraceEvent, TraceSink, tee

__all__ = [
    "MOST_AHEAD",
    "NS_PER_SECOND",
    "WINDOW",
    "Attempt",
    "BigLock",
    "BigLockError",
    "Bracket",
    "BracketOwner",
    "Bus",
    "CallbackErrors",
    "Channel",
    "ChannelClosedError",
    "Clock",
    "ClockError",
    "DeadlockError",
    "Device",
    "DeviceNotFoundError",
    "DeviceTree",
    "DeviceTreeError",
    "Event",
    "Explorer",
    "HandlerEntry",
    "HandlerList",
    "InOrder",
    "InvalidTransitionError",
    "LoadStream",
    "LocalChannel",
    "Lock",
    "Machine",
    "Migratable",
    "MigrationEvent",
    "Monitor",
    "MonitorEvent",
    "NestedNotificationError",
    "PassKind",
    "Policy",
    "QtreeError",
    "RealClock",
    "Recorder",
    "RegistrationError",
    "RunState",
    "Runnable",
    "SaveStream",
    "SocketChannel",
    "StalledError",
    "StartRefusedError",
    "StructlogSink",
    "Subscription",
    "TraceEvent",
    "TraceSink",
    "VirtualClock",
    "VmStateError",
    "add_device_handler",
    "begin_ns",
    "channel_pair",
    "depth_of_priority",
    "device_priority",
    "fails_a_test",
    "finite_or_none",
    "get_logger",
    "heard",
    "parse_qtree",
    "seconds_to_ns",
    "take_interrupt",
    "tee",
    "tell_of_interrupts",
    "uncut",
    "uncut_between_waits",
    "wait_until",
]
