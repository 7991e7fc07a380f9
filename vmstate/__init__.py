"""
QEMU's VM change state handlers: a machine, its run states, its device tree and its handlers.

Rules and words are those of QEMU 11.1. Importing this loads the standard library and structlog only.
"""

from vmstate.biglock import BigLock
from vmstate.bracket import Bracket, BracketOwner
from vmstate.channel import Channel, ChannelClosedError, channel_pair
from vmstate.clock import Clock, Event, Lock, RealClock, seconds_to_ns
from vmstate.devices import Bus, Device, add_device_handler, depth_of_priority, device_priority
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
from vmstate.machine import Machine
from vmstate.migratable import Attempt, LoadStream, Migratable, MigrationEvent, SaveStream
from vmstate.monitor import Monitor, MonitorEvent, Subscription
from vmstate.policy import InOrder, Policy, Runnable
from vmstate.qtree import DeviceTree, parse_qtree
from vmstate.runstate import RunState
from vmstate.trace import Recorder, StructlogSink, TraceEvent, TraceSink, tee
from vmstate.virtual_clock import DeadlockError, StalledError, VirtualClock

__all__ = [
    "Attempt",
    "BigLock",
    "BigLockError",
    "Bracket",
    "BracketOwner",
    "Bus",
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
    "HandlerEntry",
    "HandlerList",
    "InOrder",
    "InvalidTransitionError",
    "LoadStream",
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
    "StalledError",
    "StartRefusedError",
    "StructlogSink",
    "Subscription",
    "TraceEvent",
    "TraceSink",
    "VirtualClock",
    "VmStateError",
    "add_device_handler",
    "channel_pair",
    "depth_of_priority",
    "device_priority",
    "parse_qtree",
    "seconds_to_ns",
    "tee",
]
