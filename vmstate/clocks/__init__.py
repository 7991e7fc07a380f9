"""The seam through which everything waits: the real clock, the virtual one, and what is built on them."""

from vmstate.clocks.channel import Channel, ChannelClosedError, channel_pair
from vmstate.clocks.clock import NS_PER_SECOND, Clock, Event, Lock, RealClock, finite_or_none, seconds_to_ns
from vmstate.clocks.policy import Explorer, InOrder, Policy, Runnable
from vmstate.clocks.virtual import DeadlockError, StalledError, VirtualClock

__all__ = [
    "NS_PER_SECOND",
    "Channel",
    "ChannelClosedError",
    "Clock",
    "DeadlockError",
    "Event",
    "Explorer",
    "InOrder",
    "Lock",
    "Policy",
    "RealClock",
    "Runnable",
    "StalledError",
    "VirtualClock",
    "channel_pair",
    "finite_or_none",
    "seconds_to_ns",
]
