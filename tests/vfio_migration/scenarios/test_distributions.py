"""B9: latencies that vary: what a scenario may say of them, how they are drawn, and who takes their means."""

import math
from pathlib import Path
from random import Random
from statistics import fmean, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from vfio_migration import DeviceState
from vfio_migration.cli.main import app
from vfio_migration.errors import ScenarioError
from vfio_migration.forecast import predict
from vfio_migration.scenarios import (
    Distribution,
    LogNormal,
    Samples,
    Scenario,
    Uniform,
    override,
    parse_scenario,
    run_once,
    run_scenario,
)
from vmstate import VirtualClock

S = DeviceState
TREE = '[tree]\ndevices = [{ bus = "main-system-bus", ids = "vf{0..2}", type = "vfio-pci" }]\n'
PLACES = st.floats(0, 1, exclude_max=True)
TIMES = st.floats(1e-6, 100)


def scenario(latency: str, more: str = "") -> Scenario:
    return parse_scenario(f'{TREE}[[vfio]]\ndevices = "vf*"\nlatency = {latency}\n{more}', Path("some.toml"))


@given(TIMES, st.floats(1, 50), PLACES, PLACES)
def test_a_distribution_never_falls_and_has_what_it_was_given(
    first: float, times: float, place: float, other: float
) -> None:
    kinds: list[Distribution] = [
        LogNormal(first, first * times),
        Uniform(first, first * times),
        Samples((first, first * times)),
    ]
    for each in kinds:
        low, high = sorted((place, other))
        assert each.at(low) <= each.at(high)
    assert kinds[0].at(0.5) == pytest.approx(first)
    assert kinds[0].at(0.99) == pytest.approx(first * times)
    assert first <= kinds[1].at(place) <= first * times * (1 + 1e-9)
    assert kinds[2].at(place) in (first, first * times)


@pytest.mark.parametrize("each", [LogNormal(0.08, 0.2), Uniform(0.01, 0.03), Samples((0.01, 0.02, 0.06))])
def test_the_mean_is_that_of_many_draws(each: Distribution) -> None:
    generator = Random(7)
    drawn = [each.at(generator.random()) for _ in range(20_000)]
    assert fmean(drawn) == pytest.approx(each.mean, rel=0.02)


def test_a_draw_is_one_number_for_each_device_and_arc_in_their_order() -> None:
    varying = scenario(
        '{ STOP_COPY = { median = 0.08, p99 = 0.2 }, "STOP -> RUNNING_P2P" = { min = 0.01, max = 0.02 } }'
    )
    generator = Random(11)
    expected = []
    for _ in range(3):
        device = {}
        for arc in varying.devices[0].varying:
            place = generator.random()
            device[arc] = LogNormal(0.08, 0.2).at(place) if arc[1] is S.STOP_COPY else Uniform(0.01, 0.02).at(place)
        expected.append(device)
    drawn = varying.drawn(Random(11))
    for spec, device in zip(drawn.devices, expected, strict=True):
        assert {arc: spec.latency[arc] for arc in device} == device
    order = list(S)
    assert list(varying.devices[0].varying) == sorted(
        varying.devices[0].varying, key=lambda arc: (order.index(arc[0]), order.index(arc[1]))
    )
    assert not drawn.varies
    assert drawn.drawn(Random(3)) is drawn


def test_each_run_draws_anew_from_the_seed_and_both_modes_get_the_same() -> None:
    varying = scenario("{ default = { samples = [0.01, 0.02, 0.05] } }")
    result = run_scenario(varying, runs=4, seed=5, make_clock=VirtualClock)
    generator = Random(5)
    for number in range(4):
        drawn = varying.drawn(generator)
        for mode, each in (("parallel", drawn), ("serial", drawn.serial())):
            took = result.modes[mode].runs[number].report.switchover_s
            assert took == run_once(each, VirtualClock()).report.switchover_s
            assert took == pytest.approx(each.plan().bounds.mechanism_s, abs=1e-6)
    assert len({run.report.switchover_s for run in result.modes["parallel"].runs}) > 1
    again = run_scenario(varying, runs=4, seed=5, make_clock=VirtualClock)
    assert [run.report.switchover_s for run in again.modes["serial"].runs] == [
        run.report.switchover_s for run in result.modes["serial"].runs
    ]
    other = run_scenario(varying, runs=4, seed=6, make_clock=VirtualClock)
    assert [run.report.switchover_s for run in other.modes["serial"].runs] != [
        run.report.switchover_s for run in result.modes["serial"].runs
    ]


def test_a_prediction_takes_the_means_and_says_so() -> None:
    varying, plain = scenario("{ STOP_COPY = { min = 0.02, max = 0.04 } }"), scenario("{ STOP_COPY = 0.03 }")
    assert predict(varying).switchover_s == predict(plain).switchover_s
    assert any("means" in note for note in predict(varying).notes)
    assert not any("means" in note for note in predict(plain).notes)


def test_units_and_overrides_are_those_of_plain_times() -> None:
    varying = scenario('{ STOP_COPY = { median = "80 ms", p99 = "0.2 s" }, STOP = { samples = ["10ms", 0.02] } }')
    assert LogNormal(0.08, 0.2) in varying.devices[0].varying.values()
    assert Samples((0.01, 0.02)) in varying.devices[0].varying.values()
    plain = override(varying, ["vf0.latency.default=0.01"])
    assert plain.devices[0].varying == {}
    assert plain.devices[1].varying == varying.devices[1].varying
    again = override(plain, ["vf0.latency.STOP_COPY={ min = 0.01, max = 0.02 }"])
    assert set(again.devices[0].varying.values()) == {Uniform(0.01, 0.02)}


@pytest.mark.parametrize(
    ("latency", "said"),
    [
        ("{ STOP = { median = 0.1 } }", "expected { median, p99 }"),
        ("{ STOP = { median = 0.2, p99 = 0.1 } }", "no longer than the second"),
        ("{ STOP = { min = -1, max = 1 } }", "0 or more"),
        ("{ STOP = { min = 0, max = true } }", "0 or more"),
        ("{ STOP = { samples = [] } }", "one or more"),
        ('{ STOP = { samples = "0.1" } }', "one or more"),
        ("{ STOP = { samples = [0.1, -1] } }", "0 or more"),
        ("{ STOP = { samples = [nan] } }", "0 or more"),
        ("{ STOP = { median = 0, p99 = 1 } }", "median above 0"),
        ("{ STOP = { min = 0, max = 1e12 } }", "0 or more"),
        ('{ STOP = { min = "1 apple", max = 2 } }', "expected seconds"),
        ("{ STOP = { median = 1, p99 = 2, samples = [1] } }", "expected { median, p99 }"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(latency: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=r"some.toml: vfio\[0\].latency.'STOP'") as caught:
        scenario(latency)
    assert said in str(caught.value)


def test_what_is_endless_counts_as_the_longest_time() -> None:
    assert LogNormal(1e8, 1e9).at(1 - 2**-53) == 1e9
    assert LogNormal(1e8, 1e9).mean <= 1e9
    assert LogNormal(0.0, 0.0).at(0.3) == 0.0
    assert math.isfinite(LogNormal(0.1, 0.2).at(0.0))


def test_the_command_draws_from_its_seed(tmp_path: Path) -> None:
    path = tmp_path / "varying.toml"
    path.write_text(f'{TREE}[[vfio]]\ndevices = "vf*"\nlatency = {{ default = {{ min = 0.01, max = 0.09 }} }}\n')
    command = ["run", str(path), "--virtual", "--runs", "2", "--json", "-"]
    first, same, other = (CliRunner().invoke(app, [*command, "--seed", seed]).stdout for seed in ("1", "1", "2"))
    assert first == same != other


def test_percentiles_of_runs_are_those_of_the_distribution() -> None:
    varying = scenario('{ "PRE_COPY_P2P -> STOP_COPY" = { median = 0.1, p99 = 0.3 } }')
    generator = Random(1)
    drawn = [varying.drawn(generator).devices[0].latency[S.PRE_COPY_P2P, S.STOP_COPY] for _ in range(20_000)]
    cut = quantiles(drawn, n=100)
    assert cut[49] == pytest.approx(0.1, rel=0.02)
    assert cut[98] == pytest.approx(0.3, rel=0.04)
