"""The seam through which everything waits: the real clock, the virtual one, and what is built on them."""

from vmstate.clocks.channel import Channel, ChannelClosedError
from vmstate.clocks.clock import NS_PER_SECOND, Clock, Event, Lock, RealClock, finite_or_none, seconds_to_ns
from vmstate.clocks.local_channel import WINDOW, LocalChannel, channel_pair
from vmstate.clocks.pace import begin_ns, wait_until
from vmstate.clocks.policy import Explorer, InOrder, Policy, Runnable
from vmstate.clocks.socket_channel import MOST_AHEAD, SocketChannel
from vmstate.clocks.virtual import DeadlockError, StalledError, VirtualClock

__all__ = [
    "MOST_AHEAD",
    "NS_PER_SECOND",
    "WINDOW",
    "Channel",
    "ChannelClosedError",
    "Clock",
    "DeadlockError",
    "Event",
    "Explorer",
    "InOrder",
    "LocalChannel",
    "Lock",
    "Policy",
    "RealClock",
    "Runnable",
    "SocketChannel",
    "StalledError",
    "VirtualClock",
    "begin_ns",
    "channel_pair",
    "finite_or_none",
    "seconds_to_ns",
    "wait_until",
]
