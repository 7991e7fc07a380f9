"""`vfio-switchover-qemu`: a QEMU without hardware, from its command line to its exit status."""

import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from vfio_migration.emulator.command_line.configuration import Configuration, read_command_line
from vfio_migration.emulator.commands.dispatch import Dispatcher
from vfio_migration.emulator.devices.process_scenario import VARIABLE
from vfio_migration.emulator.emulated import Emulated
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.monitor.listener import Listener
from vfio_migration.emulator.process import signals
from vfio_migration.emulator.process.background import Background, PidFile
from vfio_migration.emulator.process.firmware import Firmware
from vfio_migration.emulator.process.log import Log, LogHandler, TracedEvents
from vfio_migration.emulator.process.machine import make_emulated
from vfio_migration.emulator.process.monitors import EarlyCommands, open_monitor
from vfio_migration.emulator.process.usage import record, said_of_version, usage
from vfio_migration.emulator.profile import Profile
from vfio_migration.live import MigrationStatus
from vmstate import MonitorEvent, RealClock

_RECORD = "--record-profile"
_PROFILE = "VFIO_SWITCHOVER_PROFILE"
_ENDS_WITHIN_S = 5.0
_LOGGERS = ("vfio_migration", "vmstate")


def main(argv: Sequence[str] | None = None) -> int:
    """Be a QEMU, and give its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    program = Path(sys.argv[0]).name or "vfio-switchover-qemu"
    if words[:1] == [_RECORD]:
        return record(program, words[1:])
    try:
        configuration = read_command_line(words)
    except QmpError as error:
        print(f"{program}: {error}", file=sys.stderr)  # noqa: T201 - what QEMU does
        return 1
    if configuration.help is not None:
        print(said_of_version() if configuration.help == "version" else usage(program))  # noqa: T201
        return 0
    return Process(configuration, program).run()


class Process:
    """
    One process: its log, its machine, its monitors, and the main thread that waits for the end.

    `_lock` guards the exit status.
    """

    def __init__(self, configuration: Configuration, program: str) -> None:
        self._configuration = configuration
        self._lock = threading.Lock()
        self._status = 0
        self._clock = RealClock()
        self._epoch_ns = time.time_ns() - self._clock.now()
        self._program = program
        self._log: Log | None = None
        self._listeners: list[Listener] = []
        self._pidfile: PidFile | None = None
        self._early: EarlyCommands | None = None

    def run(self) -> int:
        """Live until somebody ends it; gives the exit status."""
        configuration = self._configuration
        background = Background() if configuration.daemonize else None
        signals.hold_back()
        try:
            self._log = log = Log(
                self._program,
                timestamps=configuration.timestamps,
                epoch_ns=self._epoch_ns,
                file=configuration.log_file,
            )
            self._have_warnings_in(log)
            emulated = self._begin()
            self._start(emulated)
            if background is not None:
                log.detach()
                background.ready()
        except QmpError as error:
            self._fail(str(error))
            self._close(flush=False)  # no command that waits for a machine is answered any more
            if self._early is not None:
                self._early.give_up()
            return 1
        self._live(emulated)
        self._close()
        return self._exit_status

    @property
    def _exit_status(self) -> int:
        with self._lock:
            return self._status

    def _begin(self) -> Emulated:
        """Make everything that can be refused; the monitors first, as a QEMU does."""
        configuration = self._configuration
        assert self._log is not None  # noqa: S101 - made before
        profile = _profile()
        self._early = commands = EarlyCommands(profile)
        for where in configuration.monitors:
            self._listeners.append(open_monitor(where, commands))
            self._listeners[-1].start()
            if where.wait:
                self._log.note(f"info: waiting for connection on: {self._listeners[-1].filename}", self._clock.now())
                self._listeners[-1].wait_for_client()
        emulated = make_emulated(
            configuration,
            profile,
            clock=self._clock,
            trace=TracedEvents(self._log, configuration.trace) if configuration.trace else None,
            scenario=os.environ.get(VARIABLE) or None,
            on_failed_incoming=self._failed_incoming,
        )
        for listener in self._listeners:
            emulated.add_speaker(listener)
        emulated.preconfig = configuration.preconfig
        emulated.leave_preconfig = lambda: self._begin_to_run(emulated)
        emulated.when_over(signals.wake)
        emulated.machine.monitor.subscribe(lambda event: self._print_failure(emulated, event))
        Firmware(emulated.machine)
        self._await_incoming(emulated)
        if configuration.pidfile is not None:
            self._pidfile = PidFile(configuration.pidfile)
        commands.ready(Dispatcher(emulated))
        return emulated

    def _await_incoming(self, emulated: Emulated) -> None:
        uri = self._configuration.incoming
        if uri is None:
            return
        if not self._configuration.autostart:
            emulated.machine.stop()  # which is noted until the migration is in
        try:
            emulated.migrations.await_on_command_line(uri)
        except QmpError as error:
            raise QmpError(f"-incoming {uri}: {error}") from error

    def _start(self, emulated: Emulated) -> None:
        """Start the machine."""
        assert self._log is not None  # noqa: S101 - made before
        configuration = self._configuration
        if configuration.ignored:
            ignored = ", ".join(configuration.ignored)
            self._log.note(f"warning: what has no effect here: {ignored}", self._clock.now())
        if not configuration.preconfig:
            self._begin_to_run(emulated)

    def _begin_to_run(self, emulated: Emulated) -> None:
        if self._configuration.autostart and self._configuration.incoming is None:
            emulated.machine.start()

    def _live(self, emulated: Emulated) -> None:
        while not emulated.over and not self._exit_status:
            info = signals.await_signal()
            if info is not None:
                self._say(signals.said_of(info))
                emulated.end("host-signal")
        # The machine is stopped last, as a QEMU's, unless somebody holds it for good: a device that stalls may.
        last = threading.Thread(target=emulated.machine.shutdown, name="the end", daemon=True)
        last.start()
        last.join(_ENDS_WITHIN_S)

    def _close(self, *, flush: bool = True) -> None:
        for listener in self._listeners:
            listener.close(flush=flush)
        if self._pidfile is not None:
            self._pidfile.remove()
        if self._log is not None:
            self._log.close()

    def _failed_incoming(self, lines: Sequence[str]) -> None:
        """End as QEMU does where a migration that was to come in has failed."""
        for line in lines:
            self._say(line)
        with self._lock:
            self._status = 1
        signals.wake()

    def _print_failure(self, emulated: Emulated, event: MonitorEvent) -> None:
        """Print why a migration has failed that was on its way out."""
        status = event.data.get("status") if event.name == "MIGRATION" else None
        migrations = emulated.migrations
        over = status in (MigrationStatus.FAILED, MigrationStatus.CANCELLED)
        if over and not migrations.waiting and migrations.status == status:
            for line in migrations.printed:
                self._say(line)

    def _say(self, text: str) -> None:
        if self._log is not None:
            self._log.error(text, self._clock.now())

    def _fail(self, text: str) -> None:
        if self._log is not None:
            self._log.error(text, self._clock.now())
        else:
            print(f"{self._program}: {text}", file=sys.stderr)  # noqa: T201 - what QEMU does

    def _have_warnings_in(self, log: Log) -> None:
        handler = LogHandler(log, self._clock)
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(handler)


def _profile() -> Profile:
    path = os.environ.get(_PROFILE)
    return Profile.load(Path(path)) if path else Profile.bundled()


if __name__ == "__main__":
    sys.exit(main())
