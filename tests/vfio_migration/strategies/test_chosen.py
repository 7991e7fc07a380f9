"""Strategies by their names: on machines, in scenarios, on the command line."""

import gc
import json
import weakref
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vfio_migration import ScenarioError, strategy_of, use_strategy
from vfio_migration.cli.main import app
from vfio_migration.scenarios.file import load_scenario, parse_scenario
from vfio_migration.scenarios.overrides import override
from vfio_migration.strategies import Depths, Overlapping, Pool, Serial, strategy_named
from vfio_migration.testing import MachineRig
from vmstate import BigLockError, NestedNotificationError

TEXT = """
strategy = "pool:3"
[tree]
devices = [{ bus = "main-system-bus", id = "vf0" }]
[[vfio]]
devices = "vf0"
"""
WRONG = ("", "none", "Depths", "pool", "pool:", "pool:0", "pool:-1", "pool:1.5", "pool:x", " depths", "pool:1 ")


@pytest.mark.parametrize(
    ("name", "strategy"),
    [("serial", Serial()), ("depths", Depths()), ("overlapping", Overlapping()), ("pool:12", Pool(12))],
)
def test_each_is_called_by_its_name(name: str, strategy: object) -> None:
    assert strategy_named(name) == strategy
    assert strategy_named(name).name == name


@pytest.mark.parametrize("name", WRONG)
def test_another_name_is_refused_and_says_which_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"'serial', 'depths', 'overlapping' or 'pool:N' with N of 1 or more, got"):
        strategy_named(name)


@pytest.mark.parametrize("most", [0, -1, True, 1.5])
def test_a_pool_needs_places(most: int) -> None:
    with pytest.raises(ValueError, match="a pool needs a place or more"):
        Pool(most)


def test_a_machine_keeps_its_strategy_whatever_devices_come_and_go() -> None:
    with MachineRig() as rig:
        assert strategy_of(rig.machine) == Depths()
        use_strategy(rig.machine, "overlapping")
        for _ in range(2):
            rig.add_device("vf0", depth=2, latency=0.01)
            rig.add_device("vf1", depth=1, latency=0.01)
            begin = rig.clock.now()
            rig.machine.stop()
            assert rig.clock.now() - begin == 20_000_000  # two passes, depths at the same time
            rig.machine.start()
            rig.remove_device("vf0")
            rig.remove_device("vf1")
        assert strategy_of(rig.machine) == Overlapping()


def test_machines_have_their_own_and_a_machine_with_devices_may_get_another() -> None:
    with MachineRig() as rig, MachineRig() as other:
        for each in (rig, other):
            each.add_device("vf0", depth=2, latency=0.01)
            each.add_device("vf1", depth=2, latency=0.01)
        use_strategy(rig.machine, "pool:1")
        taken = []
        for each in (rig, other):
            begin = each.clock.now()
            each.machine.stop()
            taken.append(each.clock.now() - begin)
        assert taken == [40_000_000, 20_000_000]


def test_a_machine_that_has_a_strategy_is_forgotten_as_any_other() -> None:
    with MachineRig() as rig:
        use_strategy(rig.machine, "pool:2")
        rig.add_device("vf0")
        rig.machine.stop()
    machine = weakref.ref(rig.machine)
    del rig
    gc.collect()
    assert machine() is None


def test_a_handler_and_a_thread_that_is_waited_for_cannot_choose() -> None:
    refused: list[type] = []

    def choose(running: bool, state: object) -> None:
        try:
            use_strategy(rig.machine, "serial")
        except (NestedNotificationError, BigLockError) as error:
            refused.append(type(error))

    with MachineRig() as rig:
        rig.add_handler("disk", choose)
        rig.machine.stop()
        with rig.machine.big_lock.barred(), pytest.raises(BigLockError):
            use_strategy(rig.machine, "serial")
        assert refused == [NestedNotificationError]
        assert strategy_of(rig.machine) == Depths()


def test_a_scenario_says_which() -> None:
    assert parse_scenario(TEXT, Path("x.toml")).strategy == Pool(3)
    assert load_scenario("host").strategy == Depths()
    built = parse_scenario(TEXT, Path("x.toml")).build("vm")
    assert strategy_of(built.machine) == Pool(3)
    built.close()


def test_a_scenario_that_names_none_is_refused_with_the_key() -> None:
    with pytest.raises(ScenarioError, match=r"x\.toml: strategy: expected a strategy, .*, got 'pool:0'"):
        parse_scenario(TEXT.replace("pool:3", "pool:0"), Path("x.toml"))
    with pytest.raises(ScenarioError, match="strategy"):
        parse_scenario(TEXT.replace('"pool:3"', "4"), Path("x.toml"))


def test_an_override_says_another() -> None:
    changed = override(load_scenario("host"), ["strategy=overlapping"])
    assert changed.strategy == Overlapping()
    assert override(changed, ["strategy='depths'"]).strategy == Depths()
    with pytest.raises(ScenarioError, match=r"with 'strategy=fast': strategy: expected a strategy, .*got 'fast'"):
        override(load_scenario("host"), ["strategy=fast"])


def invoke(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(app, [*arguments, "--json", "-"])
    assert result.exit_code == 0, result.output
    value: dict[str, object] = json.loads(result.stdout)
    return value


def test_the_command_line_says_another_for_parallel_runs() -> None:
    result = invoke("run", "host", "--virtual", "--runs", "1", "--strategy", "overlapping")
    plan = load_scenario("host").with_strategy("overlapping").plan().bounds
    modes: dict[str, dict[str, float]] = result["modes"]  # type: ignore[assignment]
    assert modes["parallel"]["switchover_s"] == pytest.approx(plan.mechanism_s)
    assert modes["serial"]["switchover_s"] == pytest.approx(plan.serial_s)


def test_predict_compares_with_the_scenario_as_it_stands() -> None:
    result = invoke("predict", "host", "--strategy", "overlapping")
    stands: dict[str, float] = result["as_it_stands"]  # type: ignore[assignment]
    assert stands["switchover_s"] == pytest.approx(load_scenario("host").plan().bounds.mechanism_s)
    assert result["switchover_s"] < stands["switchover_s"]  # type: ignore[operator]
    assert "the strategy is 'overlapping': what 'this mechanism' can reach is what that can" in result["notes"]  # type: ignore[operator]
    assert not any("strategy" in note for note in invoke("predict", "host")["notes"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["run --virtual --runs 1", "predict"])
def test_what_is_printed_names_it_beside_its_bound(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "host", "--strategy", "pool:2"], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    words = " ".join(result.stdout.split())
    assert "this mechanism 1,421.2 ms mechanism_s: pool:2" in words
    assert ("with another strategy, against the scenario as it stands" in words) == (command == "predict")


@pytest.mark.parametrize("command", ["run", "predict"])
def test_a_name_that_is_none_is_one_line_and_exit_status_2(command: str) -> None:
    result = CliRunner().invoke(app, [command, "host", "--strategy", "pool:0"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --strategy: expected a strategy, 'serial', ")
    assert len(result.stderr.splitlines()) == 1
