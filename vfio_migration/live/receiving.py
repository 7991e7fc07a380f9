"""The destination's end of a migration: one attempt, and what it waits for."""

from vfio_migration.errors import MigrationFailedError, MigrationRefusedError
from vfio_migration.live.connection import Acceptor
from vfio_migration.live.destination import Destination
from vfio_migration.live.ends import lost_devices, recoveries, refuse_devices, refuse_thread, reset_since, seconds
from vfio_migration.live.parameters import MigrationParameters
from vfio_migration.live.report import IncomingReport
from vfio_migration.live.source import Takeover
from vmstate import CallbackErrors, Machine, VmStateError


class Receiving:
    """
    One attempt to receive a machine over whatever `acceptor` comes by.

    What callbacks raise is kept in `raised`. After `idle_timeout_s` in which nothing came the source counts as lost.
    """

    def __init__(
        self,
        machine: Machine,
        acceptor: Acceptor,
        raised: CallbackErrors,
        *,
        parameters: MigrationParameters | None,
        takeover: Takeover,
        idle_timeout_s: float | None = None,
    ) -> None:
        self.machine = machine
        self._acceptor = acceptor
        self._recoveries: dict[str, int] = {}
        self._before = machine.run_state
        self._raised = raised
        self._parameters = parameters if parameters is not None else MigrationParameters()
        self._takeover: Takeover = takeover
        self._idle_timeout_s = idle_timeout_s
        self.destination = self._new_destination()

    def refuse(self) -> None:
        """Raise MigrationRefusedError if the machine cannot become a destination."""
        refuse_thread(self.machine, "migrate")
        refuse_devices(self.machine)
        if self.machine.run_state.live:
            raise MigrationRefusedError(
                f"machine {self.machine.name!r} is '{self.machine.run_state}' and cannot become a destination: "
                "stop it first"
            )

    def tie(self) -> None:
        """Tie the machine to this attempt, in `inmigrate`; as it was, if that is refused."""
        self._recoveries = recoveries(self.machine)
        self._before = self.machine.run_state
        self.destination = self._new_destination()
        try:
            self.machine.begin_attempt(self.destination)
        except VmStateError as error:
            raise MigrationRefusedError(str(error)) from error
        try:
            self.machine.prepare_incoming()
        except VmStateError as error:
            self.untie()
            raise MigrationRefusedError(str(error)) from error

    def untie(self) -> None:
        """Let go of the machine, and have it as it was."""
        self.machine.end_attempt(self.destination)
        if self._before is not self.machine.run_state:
            self.machine.set_run_state(self._before)

    def begin(self) -> None:
        """Say that it waits."""
        self.destination.begin()

    def run(self) -> None:
        """Wait for a source, and receive what it sends, in a thread for that."""
        try:
            connection = self._acceptor.accept()
        except OSError as error:
            reason = MigrationFailedError(error.strerror or str(error))
            reason.__cause__ = error
            self.destination.give_up(reason)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the machine was not touched
            self.destination.give_up(error)
        else:
            self.destination.run(connection)

    def report(self) -> IncomingReport:
        """Say how it ended."""
        destination = self.destination
        noted = destination.noted
        return IncomingReport(
            status=destination.status,
            error=destination.error,
            destination_state=self.machine.run_state,
            start_s=seconds(destination.loaded_ns, destination.running_ns),
            bytes_received=destination.bytes_received,
            noted_state=None if noted is None else noted.run_state,
            lost_devices=lost_devices(self.machine),
            reset_devices=reset_since(self.machine, self._recoveries),
        )

    def _new_destination(self) -> Destination:
        return Destination(
            self.machine,
            self._raised,
            self._takeover,
            parameters=self._parameters,
            idle_timeout_s=self._idle_timeout_s,
        )
