"""The command `vfio-switchover compare`: two scenarios, or one and itself with other values."""

from dataclasses import replace
from typing import Annotated

import typer

from vfio_migration.cli.outputs import check_outputs, console_beside, printing, write_json
from vfio_migration.cli.refusal import refuse
from vfio_migration.drawing import print_comparison
from vfio_migration.errors import ScenarioError
from vfio_migration.forecast import compare, predict
from vfio_migration.scenarios import load_scenario, override


def compare_command(
    first: Annotated[str, typer.Argument(metavar="A", help="A bundled scenario's name, or the path of a TOML file.")],
    second: Annotated[
        str | None,
        typer.Argument(metavar="B", help="Another one; without it the first with --set.", show_default=False),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATTERN.KEY=VALUE", help="Another value for a key of the second; repeatable."),
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show all that differs, not only the most.")] = False,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write what differs there; '-': standard output.")
    ] = None,
) -> None:
    """
    Say what differs between the predicted switchovers of two scenarios: phase by phase, device by device.

    Exit status: 0; 2 if a scenario cannot be used or a file cannot be written.
    """
    if second is None and not settings:
        refuse("expected another scenario, or --set for another value: what is one to be compared with?")
    console = console_beside((json_file,))
    check_outputs((json_file,), inputs=(first, second))
    try:
        one = load_scenario(first)
        other = override(one if second is None else load_scenario(second), settings or ())
    except ScenarioError as error:
        refuse(str(error))
    changed = predict(other)
    if settings:  # else both columns would have one name
        changed = replace(changed, scenario=f"{other.name}, as set")
    found = compare(predict(one), changed)
    with printing():
        print_comparison(console, found, show_all=show_all)
    if json_file is not None:
        write_json(json_file, found.as_json())
