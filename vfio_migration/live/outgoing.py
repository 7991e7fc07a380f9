"""The sending end of a migration between two processes (QMP `migrate`)."""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from vfio_migration.live.addresses import Address, parse_uri
from vfio_migration.live.connection import Connector
from vfio_migration.live.one_way import OneWayConnector, goes_one_way, refuse_questions
from vfio_migration.live.parameters import Link, MigrationParameters
from vfio_migration.live.report import OutgoingReport
from vfio_migration.live.same_process import LocalConnector
from vfio_migration.live.sending import Sending
from vfio_migration.live.socket_connector import SocketConnector
from vfio_migration.live.source import Takeover
from vfio_migration.live.status import MigrationStatus
from vfio_migration.live.steered import Steered
from vmstate import CallbackErrors, Machine, RealClock, uncut, uncut_between_waits


class Outgoing(Steered):
    """
    Sends a machine to whatever receives at `uri`, an `Incoming` of another process: "unix:PATH", "tcp:HOST:PORT",
    "fd:NUMBER" (a connected socket, which is closed with the migration). With `takeover="qemu"` also "file:PATH",
    "exec:COMMAND" and descriptors that are no socket, from which nothing comes back.

    `start` it, `wait` for its report, and steer it meanwhile as a `Migration`; of the destination it knows what that
    says. After `peer_timeout_s` in which the destination takes nothing, the connection counts as lost, and after
    `answer_timeout_s` without an answer at the end, too (None: never). `connect_timeout_s` is how long connecting may
    take, None: as long as the system tries. `on_status` is called as `on_status(outgoing, status)`.

    A machine with a virtual clock is sent within the process, to an `Incoming` with the same clock.

    Raises:
        AddressError: `uri` says nothing that could be connected to.
        ValueError: `takeover` is none.

    """

    def __init__(
        self,
        machine: Machine,
        uri: str,
        *,
        pause_before_switchover: bool = False,
        parameters: MigrationParameters | None = None,
        link: Link | None = None,
        takeover: Takeover = "confirmed",
        answer_timeout_s: float | None = None,
        peer_timeout_s: float | None = None,
        connect_timeout_s: float | None = None,
        on_status: "Callable[[Outgoing, MigrationStatus], object] | None" = None,
    ) -> None:
        self._raised = CallbackErrors()
        self._on_status = on_status
        self._thread: threading.Thread | None = None
        address = parse_uri(uri)
        eager = True  # of the other side nothing is known: it may load slowly, or wait for a word
        channels = parameters.multifd_channels if parameters is not None else 0
        latency_s = link.latency_s if link is not None else 0.0
        connector: Connector
        if not isinstance(machine.clock, RealClock):
            connector = LocalConnector(
                machine.clock, address, f"stream {machine.name} -> {address}", channels, latency_s, eager=eager
            )
        elif goes_one_way(address, confirmed=takeover == "confirmed"):
            refuse_questions(address, confirmed=takeover == "confirmed", channels=channels)
            connector = OneWayConnector(address)
        else:
            connector = SocketConnector(
                address,
                channels=channels,
                latency_s=latency_s,
                timeout_s=peer_timeout_s,
                closely=takeover == "qemu",
                connect_timeout_s=connect_timeout_s,
            )
        self.address: Address = address
        sending = Sending(
            machine,
            connector,
            self._raised,
            pause=pause_before_switchover,
            parameters=parameters,
            link=link,
            takeover=takeover,
            answer_timeout_s=answer_timeout_s,
            on_status=None if on_status is None else self._announce,
            eager=eager,
        )
        super().__init__(sending, machine.clock, (machine,))

    def start(self) -> None:
        """
        Start sending, in a thread of its own; once only.

        Raises:
            MigrationRefusedError: the machine cannot be sent like this; nothing was changed.
            RuntimeError: the system has no thread for it.

        """
        with uncut, self._clock.taking_part(), ExitStack() as undo:
            self._start_once(undo)
            self._sending.refuse()
            self._sending.tie()
            undo.callback(self._sending.untie)
            self._thread = self._clock.start_thread(self._run, "mig/src/main")
            undo.pop_all()

    def wait(self, timeout: float | None = None) -> OutgoingReport:
        """
        Wait for the end, and report; what callbacks raised is raised as by `Migration.wait`.

        Raises:
            TimeoutError: it is not over after `timeout` seconds; it goes on.
            MigrationRefusedError: it was never started.
            BaseException: what a callback raised.

        """
        with uncut_between_waits:
            self.wait_for_end(timeout)
            self._raised.raise_first()
            return self._sending.report()

    def _run(self) -> None:
        try:
            self._sending.run()
            if self._sending.control is not None:
                self._sending.control.settle()
        finally:
            self._over.set()

    def _own_threads(self) -> Sequence[threading.Thread]:
        return () if self._thread is None else (self._thread,)

    def _join(self) -> None:
        if self._thread is not None:
            self._clock.join(self._thread)

    def _announce(self, status: MigrationStatus) -> None:
        if self._on_status is not None:
            self._on_status(self, status)
