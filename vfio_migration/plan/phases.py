"""What a switchover takes beside its devices and handlers, whatever their number: seconds by what QEMU does then."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Phases:
    """
    The fixed costs of a switchover, in seconds.

    The source pauses its CPUs before the handlers of the stop and flushes its disks after them, asks all devices for
    the last time what they have, and sends the state of the others (memory, emulated devices); the destination loads
    that and activates its disks before it starts.
    """

    pause_vcpus_s: float = 0.0
    flush_block_s: float = 0.0
    final_query_s: float = 0.0
    other_state_s: float = 0.0
    load_state_s: float = 0.0
    activate_block_s: float = 0.0

    @property
    def source_stop_s(self) -> float:
        """What of it belongs to the source's stop."""
        return self.pause_vcpus_s + self.flush_block_s

    @property
    def transfer_s(self) -> float:
        """What of it belongs to the transfer."""
        return self.final_query_s + self.other_state_s

    @property
    def destination_start_s(self) -> float:
        """What of it belongs to the destination's start."""
        return self.load_state_s + self.activate_block_s

    @property
    def total_s(self) -> float:
        """All of it; no bound is shorter."""
        return self.source_stop_s + self.transfer_s + self.destination_start_s


NO_PHASES = Phases()
