"""`vfio-switchover explore`: the invariants of a scenario's migration in every order of its threads."""

import re
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vfio_migration.cli.main import app
from vfio_migration.live import MigrationReport, migrate
from vfio_migration.testing import Invariants
from vmstate import Machine

SCENARIO = """
[[tree.devices]]
id = "vf0"
bus = "main-system-bus"

[[tree.devices]]
id = "vf1"
bus = "main-system-bus"

[[vfio]]
devices = "vf*"
latency = { default = 0.01 }
"""


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["explore", *arguments])
    return result.exit_code, result.output


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    file = tmp_path / "two.toml"
    file.write_text(SCENARIO, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("policy", ["pct", "random", "exhaustive", "exhaustive:1", "in-order"])
def test_what_must_hold_does(scenario: str, policy: str) -> None:
    code, output = run(scenario, "--policy", policy, "--schedules", "20")
    assert code == 0
    tried = 1 if policy == "in-order" else 20
    assert f"two: all that must hold does, in {tried} schedule(s)" in output
    assert re.search(r"\d+ a second", output)
    assert ("% of all" in output) == policy.startswith("exhaustive")


@pytest.mark.parametrize("fault", ['at = "PRE_COPY -> PRE_COPY_P2P"', 'at = "RESUMING -> STOP"\nside = "destination"'])
def test_the_scenario_s_faults_are_met(scenario: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: set[str] = set()
    check = Invariants.check

    def noting(invariants: Invariants, report: object, **options: object) -> None:
        statuses.add(str(report.status))  # type: ignore[attr-defined]
        check(invariants, report, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Invariants, "check", noting)
    Path(scenario).write_text(f'{SCENARIO}\n[[faults]]\ndevice = "vf0"\n{fault}\n', encoding="utf-8")
    code, output = run(scenario, "--schedules", "10", "--timing", "any", "--seed", "3")
    assert (code, statuses) == (0, {"failed"}), output


def test_a_schedule_in_which_something_does_not_hold_is_shown_and_replayed(
    scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[str] = []
    check = Invariants.check

    def broken(invariants: Invariants, report: object, **options: object) -> None:
        check(invariants, report, **options)  # type: ignore[arg-type]
        clock = invariants.source.clock
        for name in "ab":
            clock.join(clock.start_thread(lambda: clock.sleep(0.0), name))
        joined.clear()
        threads = [clock.start_thread(lambda name=name: joined.append(name), name) for name in "ab"]  # type: ignore[misc]
        for thread in threads:
            clock.join(thread)
        assert joined == ["a", "b"], "out of order"

    monkeypatch.setattr(Invariants, "check", broken)
    code, output = run(scenario, "--policy", "random")
    assert code == 1
    assert "out of order" in output
    assert "1 switch, marked *" in output
    (schedule,) = re.findall(r"--replay '(.*)'", output)
    code, output = run(scenario, "--replay", schedule)
    assert code == 1
    assert "AssertionError: out of order" in output
    monkeypatch.setattr(Invariants, "check", check)
    code, output = run(scenario, "--replay", schedule)
    assert code == 2
    assert "does not fit" in output


def test_a_schedule_in_which_all_holds_is_said_to(scenario: str) -> None:
    code, output = run(scenario, "--replay", "vs1/exact/pct/-/-/0.-")
    assert (code, output.strip()) == (0, "two: all that must hold does, in this schedule")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nowhere",),
        ("vfs", "--policy", "best"),
        ("vfs", "--timing", "some"),
        ("vfs", "--replay", "x"),
        ("vfs", "--schedules", "0"),
    ],
)
def test_what_cannot_be_used_is_an_error(arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 2


def test_a_scenario_that_never_switches_over_is_refused(scenario: str) -> None:
    endless = '\n[ram]\nsize = "1 GB"\ndirty_rate = "2 GB/s"\n\n[link]\nbandwidth = "1 GB/s"\n'
    Path(scenario).write_text(SCENARIO + endless, encoding="utf-8")
    code, output = run(scenario, "--schedules", "3")
    assert code == 2
    assert "would never begin" in output


def test_processes_find_what_this_process_finds(scenario: str) -> None:
    alone, many = (run(scenario, "--schedules", "60", *how) for how in ((), ("--engine", "processes")))
    assert alone[0] == many[0] == 0
    assert [re.sub(r"\(.*", "", output).strip() for _, output in (alone, many)] == [
        "two: all that must hold does, in 60 schedule"
    ] * 2


def test_an_engine_that_is_none_is_refused(scenario: str) -> None:
    status, output = run(scenario, "--engine", "cloud")
    assert status == 2
    assert "expected 'processes'" in output


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_a_migration_ends_it(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[MigrationReport] = []

    def press_in_the_third(source: Machine, destination: Machine, **options: object) -> MigrationReport:
        with source.clock.taking_part():  # in which it waits to be heard
            if len(reports) == 2:
                signal.raise_signal(signal.SIGINT)
            reports.append(migrate(source, destination))
        return reports[-1]

    monkeypatch.setattr("vfio_migration.cli.explore_command.migrate", press_in_the_third)
    code, said = run(scenario, "--schedules", "50")
    assert code == 130
    assert "interrupted" in said
    assert [report.interrupted for report in reports] == [False, False, True]
