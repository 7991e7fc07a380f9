"""`vfio-switchover send` and `receive`: the two ends of a migration of a scenario, in two processes, in real time."""

from dataclasses import asdict, replace
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from vfio_migration.cli.outputs import check_outputs, console_beside, printing, write_json
from vfio_migration.errors import MigrationRefusedError, ScenarioError, described
from vfio_migration.live import Incoming, IncomingReport, MigrationStatus, Outgoing, OutgoingReport
from vfio_migration.scenarios import Scenario, ScenarioMachine, load_scenario, override, refuse_endless
from vfio_migration.wording import ms

_HELLO_S = 10.0
_INTERRUPTED = 130


class TakeoverKind(StrEnum):
    """How the source learns that the destination runs."""

    CONFIRMED = "confirmed"
    QEMU = "qemu"


_SCENARIO = typer.Argument(help="A bundled scenario's name, or the path of a TOML file; the same on both sides.")
_URI = typer.Argument(help="unix:PATH, tcp:HOST:PORT or fd:NUMBER.")
_Takeover = Annotated[
    TakeoverKind,
    typer.Option(help="confirmed: the source keeps all until the destination has said that it runs; qemu: as QEMU."),
]
_Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATTERN.KEY=VALUE", help="Another value for a key; repeatable, as for `run`."),
]
_PeerTimeout = Annotated[
    float | None,
    typer.Option(
        min=0.001, metavar="SECONDS", help="The other side counts as lost if it takes, or sends, nothing for so long."
    ),
]
_AnswerTimeout = Annotated[
    float | None,
    typer.Option(
        min=0.001, metavar="SECONDS", help="How long the destination may take at the end to say that it runs."
    ),
]
_Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the report there; '-': standard output.")
]


def send_command(
    scenario: Annotated[str, _SCENARIO],
    uri: Annotated[str, _URI],
    takeover: _Takeover = TakeoverKind.CONFIRMED,
    settings: _Settings = None,
    peer_timeout: _PeerTimeout = None,
    answer_timeout: _AnswerTimeout = None,
    json_file: _Json = None,
) -> None:
    """
    Be the source of a migration: start the scenario's machine, and send it to where another process receives.

    Exit status: 0 if it completed, 1 if not, 2 if what was given cannot be used, 130 after Ctrl-C.
    """
    console = console_beside((json_file,))
    loaded = _loaded(scenario, settings)
    check_outputs((json_file,), inputs=(scenario,))
    built = loaded.build("source")
    hashes: dict[str, str] = {}

    def note_states(_: Outgoing, status: MigrationStatus) -> None:
        if status is MigrationStatus.COMPLETED:  # before the clean-up, which may have to reset a device
            hashes.update(_state_hashes(built))

    around = loaded.surroundings
    try:
        outgoing = Outgoing(
            built.machine,
            uri,
            parameters=around.parameters,
            link=around.link,
            takeover=takeover.value,
            peer_timeout_s=peer_timeout,
            answer_timeout_s=answer_timeout,
            on_status=note_states,
        )
        built.machine.start()
        report = _report_of(outgoing)
    except (MigrationRefusedError, OSError) as error:
        _refused(error)
    assert isinstance(report, OutgoingReport)  # noqa: S101 - of an Outgoing
    built.close()
    _show(console, loaded, report, _source_rows(report))
    _end(json_file, loaded, "source", report, hashes)


def receive_command(
    scenario: Annotated[str, _SCENARIO],
    uri: Annotated[str, _URI],
    takeover: _Takeover = TakeoverKind.CONFIRMED,
    settings: _Settings = None,
    peer_timeout: _PeerTimeout = None,
    json_file: _Json = None,
) -> None:
    """
    Be the destination of a migration: wait for a source with the same scenario, and take over from it.

    Where it waits is said on standard error as soon as it does. Exit status: 0 if it took over, 1 if not, 2 if what was
    given cannot be used, 130 after Ctrl-C.
    """
    console = console_beside((json_file,))
    loaded = _loaded(scenario, settings)
    check_outputs((json_file,), inputs=(scenario,))
    built = loaded.build("destination", destination=True)
    around = loaded.surroundings
    try:
        incoming = Incoming(
            built.machine,
            uri,
            parameters=around.parameters,
            link=around.link,
            takeover=takeover.value,
            peer_timeout_s=peer_timeout,
            hello_timeout_s=min(peer_timeout or _HELLO_S, _HELLO_S),
        )
        report = _report_of(incoming)
    except (MigrationRefusedError, OSError) as error:
        _refused(error)
    assert isinstance(report, IncomingReport)  # noqa: S101 - of an Incoming
    hashes = _state_hashes(built) if report.completed else {}
    built.close()
    _show(console, loaded, report, _destination_rows(report))
    _end(json_file, loaded, "destination", report, hashes)


def _loaded(scenario: str, settings: list[str] | None) -> Scenario:
    try:
        loaded = override(load_scenario(scenario), settings or [])
        refuse_endless(loaded)
    except ScenarioError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    return loaded


def _refused(error: Exception) -> NoReturn:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    typer.echo(f"error: {text}", err=True)
    raise typer.Exit(2) from None


def _report_of(end: Outgoing | Incoming) -> OutgoingReport | IncomingReport:
    """Start an end and wait for it; Ctrl-C cancels it, and is answered when it is over. Raises what starting raises."""
    try:
        end.start()
        if isinstance(end, Incoming):
            typer.echo(f"waiting at {end.uri}", err=True)
        return end.wait()
    except KeyboardInterrupt:
        end.cancel()
        if end.status is MigrationStatus.NONE:  # it had not begun
            typer.echo("interrupted: there was no migration yet", err=True)
            raise typer.Exit(_INTERRUPTED) from None
        report = end.wait()
        typer.echo(f"interrupted: the migration is {report.status}", err=True)
        return replace(report, interrupted=True)


def _state_hashes(built: ScenarioMachine) -> dict[str, str]:
    return {name: mock.state_hash for name, mock in built.mocks.items()}


def _source_rows(report: OutgoingReport) -> list[tuple[str, str]]:
    return [
        ("set-up", ms(report.setup_s)),
        ("source stops", ms(report.source_stop_s)),
        ("states transferred", ms(report.transfer_s)),
        ("destination has answered after", ms(report.answered_s)),
        ("downtime, as the source counts it", ms(report.downtime_s)),
        ("all of it", ms(report.total_s)),
        ("sent", f"{report.bytes_sent:,} bytes, states counted in full"),
        ("source is now", str(report.source_state)),
    ]


def _destination_rows(report: IncomingReport) -> list[tuple[str, str]]:
    return [
        ("destination starts, from when all has come", ms(report.start_s)),
        ("received", f"{report.bytes_received:,} bytes, on the wire"),
        ("source was", "" if report.noted_state is None else str(report.noted_state)),
        ("destination is now", str(report.destination_state)),
    ]


def _show(
    console: Console, loaded: Scenario, report: OutgoingReport | IncomingReport, rows: list[tuple[str, str]]
) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for what, figure in rows:
        if figure:
            table.add_row(what, figure)
    error = "" if report.error is None else f": {described(report.error)}"
    with printing():
        console.print(f"{loaded.name}: {report.status}{error}", markup=False, highlight=False, soft_wrap=True)
        console.print(table)


def _end(
    file: str | None, loaded: Scenario, side: str, report: OutgoingReport | IncomingReport, hashes: dict[str, str]
) -> NoReturn:
    """Write the report as JSON, if that was asked for, and give the exit status."""
    if file is not None:
        data: dict[str, Any] = {"scenario": loaded.name, "side": side, **asdict(report)}
        data["error"] = None if report.error is None else described(report.error)
        data["state_hashes"] = hashes
        write_json(file, data)
    if report.interrupted:
        raise typer.Exit(_INTERRUPTED)
    raise typer.Exit(0 if report.completed else 1)
