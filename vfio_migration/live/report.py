"""What a migration came to, and what either end of it knows of that."""

from dataclasses import dataclass

from vfio_migration.live.status import MigrationStatus
from vmstate import RunState


@dataclass(frozen=True, kw_only=True)
class OutgoingReport:
    """
    What the source knows of how its migration ended; times in seconds, None where not reached.

    - `source_stop_s`: from telling the source to stop until saving begins (a pause before the switchover
      included).
    - `transfer_s`: from there until the last byte is out.
    - `setup_s`, `total_s`: of the set-up, and of all of it; `downtime_s`: as QEMU counts it, from telling the source to
      stop until the last byte is out, with a return path until the destination has answered.
    - `answered_s`: from the last byte until the destination has answered, None if nobody waited for that.
    - `noted_state`: the run state that the source had when it was stopped; None if it was not.
    - `lost_devices`: not even a reset helped; `reset_devices`: they run, and have lost the guest's state.
    """

    status: MigrationStatus
    error: BaseException | None
    source_state: RunState
    source_stop_s: float | None = None
    transfer_s: float | None = None
    setup_s: float | None = None
    total_s: float | None = None
    downtime_s: float | None = None
    answered_s: float | None = None
    bytes_sent: int = 0
    stream_sha256: str = ""
    precopy_rounds: int = 0
    lost_devices: tuple[str, ...] = ()
    reset_devices: tuple[str, ...] = ()
    noted_state: RunState | None = None
    takeover: str = "confirmed"
    interrupted: bool = False

    @property
    def completed(self) -> bool:
        """Whether the source is done: with `takeover="confirmed"` the destination has said that it took over."""
        return self.status is MigrationStatus.COMPLETED


@dataclass(frozen=True, kw_only=True)
class IncomingReport:
    """
    What the destination knows of how its migration ended; times in seconds, None where not reached.

    - `start_s`: from the last byte that came until its machine runs, or has the state it is to have.
    - `bytes_received`: of the stream, without what came over multifd channels.
    - `noted_state`: the run state that the source had when it was stopped; None if that never came.
    - `lost_devices`: not even a reset helped; `reset_devices`: they have lost the state that came.
    """

    status: MigrationStatus
    error: BaseException | None
    destination_state: RunState
    start_s: float | None = None
    bytes_received: int = 0
    noted_state: RunState | None = None
    lost_devices: tuple[str, ...] = ()
    reset_devices: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def completed(self) -> bool:
        """Whether it has taken over."""
        return self.status is MigrationStatus.COMPLETED


@dataclass(frozen=True, kw_only=True)
class MigrationReport(OutgoingReport):
    """
    How a migration ended, as both ends know it, and what its switchover took.

    - `destination_start_s`: from the last byte out until the destination's machine runs, or has the state it is to
      have.
    - `blackout_s`: from telling the source to stop until the destination's guest runs, None if it does not.
    """

    destination_state: RunState
    destination_status: MigrationStatus
    destination_start_s: float | None = None
    blackout_s: float | None = None
    destination_lost_devices: tuple[str, ...] = ()
    destination_reset_devices: tuple[str, ...] = ()

    @property
    def switchover_s(self) -> float | None:
        """The whole switchover: the sum of its three parts; None if one was not reached."""
        if self.source_stop_s is None or self.transfer_s is None or self.destination_start_s is None:
            return None
        return self.source_stop_s + self.transfer_s + self.destination_start_s
