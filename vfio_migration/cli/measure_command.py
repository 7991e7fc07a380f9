"""The command `vfio-switchover measure`: real devices through switchovers of their own, and what they take."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from vfio_migration.cli.outputs import check_outputs, console_beside, printing, write_json, write_text
from vfio_migration.cli.refusal import refuse
from vfio_migration.drawing import print_measurement
from vfio_migration.errors import VFIOMigrationError
from vfio_migration.kernel import KernelDevice, KernelDeviceError, LinuxSystem, System, locate
from vfio_migration.measuring import MODES, Measurement, Subject, measure, measured_json, measured_scenario
from vfio_migration.wording import listed

_INTERRUPTED = 130


class MeasuredMode(StrEnum):
    """How devices change their state while they are measured."""

    ALL = "all"
    SERIAL = "serial"
    PER_CHANGE = "per-change"
    PARKED = "parked"


def measure_command(
    devices: Annotated[
        list[str],
        typer.Argument(
            metavar="DEVICE...",
            help="/dev/vfio/devices/vfioN, a PCI address, a mediated device's UUID, or a folder of sysfs.",
        ),
    ],
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE",
            help="Where the state goes, one for each device, in their order: repeated, or separated by commas. "
            "Without it each device takes its own state back.",
        ),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Switchovers in each mode.")] = 10,
    mode: Annotated[MeasuredMode, typer.Option(help="How devices change their state.")] = MeasuredMode.ALL,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the devices are touched.")] = False,
    scenario_file: Annotated[
        str | None,
        typer.Option("--scenario", metavar="FILE.toml", help="Write a scenario of what was found; '-': stdout."),
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write all figures there; '-': standard output.")
    ] = None,
) -> None:
    """
    Measure what real devices take in a switchover: each arc, reads, writes, resets; serially and in threads.

    It needs no virtual machine, and nothing may use the devices: they are reset, stopped, read out and loaded.

    Exit status: 0 if every switchover completed, 1 if not, 2 if a device cannot be used or a file cannot be written,
    130 after Ctrl-C.
    """
    console = console_beside((scenario_file, json_file))
    check_outputs((scenario_file, json_file))
    modes = MODES if mode is MeasuredMode.ALL else (str(mode),)
    targets = [name for given in to or () for name in given.split(",")]
    if targets and len(targets) != len(devices):
        refuse(f"{len(devices)} devices and {len(targets)} to send their states to: expected one for each, or none")
    _check_names((*devices, *targets))  # before anybody is asked to agree
    _announce(devices, targets, runs, modes)
    if not yes:
        _ask()
    measurement = _measured(devices, targets, runs, modes)
    scenario = measured_scenario(measurement, f"measured: {listed(devices)}")
    with printing():
        print_measurement(console, measurement, scenario)
    if json_file is not None:
        write_json(json_file, measured_json(measurement, scenario))
    if scenario_file is not None and scenario is not None:
        write_text(scenario_file, scenario.text)
    raise typer.Exit(1 if measurement.failures else 0)


def system() -> System:
    """Give the system whose devices are meant; tests put another in its place."""
    return LinuxSystem()


def _check_names(names: Sequence[str]) -> None:
    """Refuse what is no device, is none of VFIO's, or is named twice."""
    here = system()
    try:
        places = [locate(name, here).name for name in names]
    except VFIOMigrationError as error:
        refuse(str(error))
    twice = sorted({name for name in places if places.count(name) > 1})
    if twice:
        refuse(f"named twice: {', '.join(twice)}")


def _announce(devices: Sequence[str], targets: Sequence[str], runs: int, modes: Sequence[str]) -> None:
    """Say what will be done to which devices."""
    typer.echo(f"will take these devices through {runs} switchovers in each mode ({', '.join(modes)}):", err=True)
    for number, name in enumerate(devices):
        goes = f"into {targets[number]}" if targets else "back into itself"
        typer.echo(f"  {name}: reset, stopped, its state read out and loaded {goes}", err=True)
    typer.echo("All are reset before, between and after: what they hold is lost. Nothing else may use them.", err=True)


def _ask() -> None:
    """Have somebody agree, or leave."""
    if not sys.stdin.isatty():
        refuse("nobody can be asked here: --yes agrees beforehand")
    if not typer.confirm("Go on?", err=True):
        raise typer.Exit(2)


def _measured(devices: Sequence[str], targets: Sequence[str], runs: int, modes: Sequence[str]) -> Measurement:
    """Open the devices, measure, and close them, whatever happens."""
    try:
        with ExitStack() as opened:
            subjects = _opened(opened, devices, targets)
            progress = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
            with progress:
                task = progress.add_task("measuring", total=runs * len(modes))
                return measure(subjects, runs=runs, modes=modes, on_run=lambda: progress.advance(task))
    except (KernelDeviceError, VFIOMigrationError) as error:
        refuse(str(error))
    except KeyboardInterrupt:
        typer.echo("interrupted: the devices were reset and given back", err=True)
        raise typer.Exit(_INTERRUPTED) from None


def _opened(opened: ExitStack, devices: Sequence[str], targets: Sequence[str]) -> list[Subject]:
    here = system()
    real = [opened.enter_context(KernelDevice(name, system=here)) for name in (*devices, *targets)]
    pairs: list[KernelDevice | None] = [*real[len(devices) :]] or [None for _ in devices]
    return [Subject(source.name, source, pair) for source, pair in zip(real[: len(devices)], pairs, strict=True)]
