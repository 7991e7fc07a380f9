"""The receiving end of a migration between two processes (QEMU's `-incoming`, QMP `migrate-incoming`)."""

import threading
from contextlib import ExitStack

from vfio_migration.errors import MigrationRefusedError, WrongStatusError
from vfio_migration.live.addresses import Address, parse_uri, uri_of
from vfio_migration.live.ends import refuse_thread
from vfio_migration.live.one_way import OneWayAcceptor, goes_one_way, refuse_questions
from vfio_migration.live.parameters import Link, MigrationParameters
from vfio_migration.live.receiving import Receiving
from vfio_migration.live.report import IncomingReport
from vfio_migration.live.same_process import LocalAcceptor
from vfio_migration.live.socket_acceptor import SocketAcceptor
from vfio_migration.live.source import Takeover
from vfio_migration.live.status import MigrationStatus
from vmstate import CallbackErrors, Machine, RealClock, finite_or_none, uncut, uncut_between_waits


class Incoming:
    """
    Has a machine wait at `uri` for an `Outgoing` of another process, and take over what that sends.

    "unix:PATH" (the file is taken away when somebody has come, or nobody is waited for any more), "tcp:HOST:PORT" (port
    0: one that the system chooses, see `address`), "fd:NUMBER" (a socket that listens or is connected); with
    `takeover="qemu"` also what a source has written: "file:PATH", "exec:COMMAND". Who comes first
    has to be a source, and to say so within `hello_timeout_s`: anything else fails the migration, as it does QEMU's,
    and the error says what came. Others are turned away. After `peer_timeout_s` in which nothing comes the source
    counts as lost (None: never); a source says nothing while its devices change their states, or in a pause before the
    switchover. `parameters` have to agree with the source's in capabilities.

    A machine with a virtual clock receives within the process, from an `Outgoing` with the same clock.

    Raises:
        AddressError: `uri` says nothing that could be listened at.

    """

    def __init__(
        self,
        machine: Machine,
        uri: str,
        *,
        parameters: MigrationParameters | None = None,
        link: Link | None = None,
        takeover: Takeover = "confirmed",
        peer_timeout_s: float | None = None,
        hello_timeout_s: float = 10.0,
    ) -> None:
        self._machine = machine
        self._clock = machine.clock
        self._raised = CallbackErrors()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()  # held from a start on, unless that fails
        self._over = machine.clock.event("the end of the incoming migration")
        address = parse_uri(uri)
        self._acceptor: SocketAcceptor | LocalAcceptor | OneWayAcceptor
        channels = parameters.multifd_channels if parameters is not None else 0
        if not isinstance(machine.clock, RealClock):
            self._acceptor = LocalAcceptor(machine.clock, address)
        elif goes_one_way(address, confirmed=takeover == "confirmed"):
            refuse_questions(address, confirmed=takeover == "confirmed", channels=channels)
            self._acceptor = OneWayAcceptor(address)
        else:
            self._acceptor = SocketAcceptor(
                address,
                channels=channels,
                latency_s=link.latency_s if link is not None else 0.0,
                timeout_s=peer_timeout_s,
                closely=takeover == "qemu",
                hello_s=hello_timeout_s,
            )
        self._receiving = Receiving(
            machine,
            self._acceptor,
            self._raised,
            parameters=parameters,
            takeover=takeover,
            idle_timeout_s=finite_or_none(peer_timeout_s),
        )

    @property
    def started(self) -> bool:
        """Whether it was started."""
        return self._thread is not None

    @property
    def status(self) -> MigrationStatus:
        """How the migration stands, as its destination sees it."""
        return self._receiving.destination.status

    @property
    def error(self) -> BaseException | None:
        """The first error, if there was one."""
        return self._receiving.destination.error

    @property
    def address(self) -> Address:
        """Where it listens, with the port that the system chose."""
        return self._acceptor.address

    @property
    def uri(self) -> str:
        """The same as an `Outgoing` takes it."""
        return uri_of(self.address)

    def start(self) -> None:
        """
        Listen, and receive in a thread of its own; once only. The machine goes to `inmigrate`.

        Raises:
            MigrationRefusedError: the machine cannot become a destination; nothing was changed.
            OSError: that cannot be listened at, as somebody does; nothing was changed.
            RuntimeError: the system has no thread for it.

        """
        with uncut, self._clock.taking_part(), ExitStack() as undo:
            if self._thread is not None or not self._starting.acquire(blocking=False):
                raise MigrationRefusedError("The incoming migration has already been started")
            undo.callback(self._starting.release)
            self._receiving.refuse()
            self._acceptor.open()  # first: of a machine that became a destination not every state can be restored
            undo.callback(self._acceptor.close)
            self._receiving.tie()
            undo.callback(self._receiving.untie)
            self._receiving.begin()
            self._thread = self._clock.start_thread(self._run, "mig/dst/main")
            undo.pop_all()

    def cancel(self) -> bool:
        """Wait for nobody any more, or cut the connection; False if it is over. The migration fails."""
        if self._thread is None or self.status.over:
            return False
        with uncut:
            self._acceptor.abort()
        return True

    def continue_(self) -> None:
        """Raise WrongStatusError: only a source waits to be continued."""
        raise WrongStatusError(f"Migration not in expected state: {self.status}; only its source waits to be continued")

    def wait(self, timeout: float | None = None) -> IncomingReport:
        """
        Wait for the end, and report; what callbacks raised is raised as by `Migration.wait`.

        Raises:
            TimeoutError: it is not over after `timeout` seconds; it goes on.
            MigrationRefusedError: it was never started.
            BaseException: what a callback raised.

        """
        if self._thread is None:
            raise MigrationRefusedError("the migration was not started")
        refuse_thread(self._machine, "wait for the migration of")
        with uncut_between_waits, self._clock.taking_part():
            if not self._over.wait(finite_or_none(timeout)):
                raise TimeoutError(f"the incoming migration is still '{self.status}' after {timeout} s")
            self._clock.join(self._thread)
            self._raised.raise_first()
            return self._receiving.report()

    def _run(self) -> None:
        try:
            self._receiving.run()
        finally:
            self._over.set()
