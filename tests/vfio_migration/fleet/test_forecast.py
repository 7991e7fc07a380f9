"""F1 to F3: forecasts against runs, against sampling by hand, and from every engine the same bytes."""

import json
import math
import os
import signal
import subprocess
import sys
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from random import Random
from statistics import NormalDist, fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfio_migration.engines import EngineError, engine, in_order_of
from vfio_migration.fleet import (
    BOUNDS,
    MECHANISM,
    SERIAL,
    Asked,
    Histogram,
    forecast,
    forecast_one,
    samples_of,
)
from vfio_migration.fleet.draws import normal_at
from vfio_migration.fleet.figures import figures
from vfio_migration.scenarios import LogNormal, Scenario, load_scenario, override, parse_scenario, run_scenario
from vmstate import VirtualClock

TREE = """
[tree]
devices = [
    { bus = "main-system-bus", type = "host", buses = ["pcie.0"] },
    { bus = "pcie.0", ids = "vf{0..2}", type = "vfio-pci" },
    { bus = "pcie.0", type = "port", buses = ["rp0"] },
    { bus = "rp0", ids = "gpu{0..1}", type = "vfio-pci" },
]
"""


def scenario(latency: str, more: str = "", name: str = "some") -> Scenario:
    text = f'{TREE}\n[[vfio]]\ndevices = "*"\nstate_size = 0\nlatency = {latency}\n{more}'
    return parse_scenario(text.replace('devices = "*"', 'devices = "[vg]*"'), Path(f"{name}.toml"))


VARYING = '{ STOP_COPY = { median = 0.08, p99 = 0.2 }, "RESUMING -> STOP" = { median = 0.04, p99 = 0.05 } }'
HANDLERS = '[[handlers]]\ntypes = "port"\nstop = 0.03\nprepare_start = 0.01\n'


def test_percentiles_are_those_of_sampling_by_hand() -> None:
    """Two depths, log-normal arcs, 40,000 samples; by hand with other random numbers."""
    samples = 40_000
    found = forecast_one(scenario(VARYING), Asked(samples)).figures
    hand = np.random.default_rng(1)

    def drawn(median: float, p99: float, devices: int) -> Any:
        sigma = math.log(p99 / median) / NormalDist().inv_cdf(0.99)
        return median * np.exp(sigma * hand.standard_normal((devices, samples)))

    stops, loads = [drawn(0.08, 0.2, 3), drawn(0.08, 0.2, 2)], [drawn(0.04, 0.05, 3), drawn(0.04, 0.05, 2)]
    by_hand = {
        SERIAL: sum(each.sum(axis=0) for each in (*stops, *loads)),
        MECHANISM: sum(each.max(axis=0) for each in (*stops, *loads)),
    }
    for bound, values in by_hand.items():
        assert found[bound].p50 == pytest.approx(np.quantile(values, 0.5), rel=0.02)
        assert found[bound].p99 == pytest.approx(np.quantile(values, 0.99), rel=0.04)
        assert found[bound].mean == pytest.approx(values.mean(), rel=0.02)


MOST = """{
    STOP_COPY = { median = 0.05, p99 = 0.1 }, RUNNING = { min = 0.01, max = 0.02 },
    PRE_COPY_P2P = { samples = [0.01, 0.02, 0.05] }, STOP = 0.01 }""".replace("\n", " ")


@pytest.mark.parametrize(
    "made",
    [
        scenario(MOST, HANDLERS),
        override(scenario(MOST, HANDLERS + "[phases]\nlaunch_s = 0.001\njoin_s = 0.002\n"), ["strategy=overlapping"]),
        override(scenario(MOST, HANDLERS + "[phases]\nlaunch_s = 0.001\n"), ["strategy=pool:2"]),
        scenario(MOST, HANDLERS + "[phases]\nlaunch_s = 0.001\njoin_s = 0.002\npause_vcpus_s = 0.003\n"),
        override(scenario(MOST, HANDLERS), ["vf1.parallel=false", "gpu*.precopy=false", "*.state_size=5000000"]),
        override(scenario(MOST), ["*.rate=50e6", "*.write_rate=80e6", "*.state_size=3000000", "*.config_load=0.004"]),
        override(load_scenario("mlx5"), ["*.latency.RUNNING={ min = 0.01, max = 0.02 }"]),
        override(load_scenario("mlx5"), ["*.latency.RUNNING_P2P->RUNNING={ min = 0.01, max = 0.02 }"]),
        override(
            load_scenario("mlx5"),
            ["parameters.multifd_channels=4", "*.latency.PRE_COPY_P2P->STOP_COPY={ min = 0.01, max = 0.2 }"],
        ),
    ],
    ids=["passes", "overlapping", "pool", "launches", "mixed", "loading", "simulated", "link", "side by side"],
)
def test_sample_k_is_run_k_to_the_microsecond(made: Scenario) -> None:
    runs = 4
    samples, _ = samples_of(made, Asked(runs, seed=9))
    result = run_scenario(made, runs=runs, seed=9, make_clock=VirtualClock)
    for mode, bound in (("serial", SERIAL), ("parallel", MECHANISM)):
        took = [run.report.switchover_s for run in result.modes[mode].runs]
        assert samples[bound] == pytest.approx(took, abs=2e-6)


def test_what_is_simulated_says_so_and_what_does_not_vary_too() -> None:
    linked = override(load_scenario("mlx5"), ["*.latency.PRE_COPY={ min = 0.01, max = 0.02 }"])
    assert any("a plan of its own" in note for note in forecast_one(linked, Asked(5)).notes)
    assert any("no latency varies" in note for note in forecast_one(load_scenario("vfs"), Asked(5)).notes)
    assert not any("a plan of its own" in note for note in forecast_one(scenario(VARYING), Asked(5)).notes)


def test_what_never_switches_over_is_never() -> None:
    never = override(load_scenario("mlx5"), ["ram.dirty_rate=1e12"])
    assert never.plan().never
    found = forecast({"mlx5": never}, samples=10, limit=1.0)
    assert found.as_json()["scenarios"]["mlx5"]["mechanism"] == {
        "p50": None, "p90": None, "p99": None, "mean": None, "exceeds": 1.0,
    }  # fmt: skip
    assert json.dumps(found.as_json())


@given(st.floats(0, 1, exclude_max=True))
def test_quantiles_are_those_that_runs_draw_with(place: float) -> None:
    (found,) = normal_at(np.array([place]))
    assert found == pytest.approx(NormalDist().inv_cdf(max(place, 2.0**-54)), rel=1e-14, abs=1e-15)


@given(st.integers(0, 2**32), st.integers(1, 60))
@settings(max_examples=20)
def test_draws_are_those_of_runs_whatever_the_seed(seed: int, samples: int) -> None:
    made = scenario(MOST)
    generator = Random(seed)
    expected = [made.drawn(generator).plan().bounds.mechanism_s for _ in range(samples)]
    assert samples_of(made, Asked(samples, seed))[0][MECHANISM] == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=300))
def test_histograms_add_up_and_are_right_to_a_bin(values: list[float]) -> None:
    whole, first, second = Histogram(), Histogram(), Histogram()
    whole.add(np.array(values), 1.0)
    first.add(np.array(values[: len(values) // 2 + 1]), 1.0)
    if values[len(values) // 2 + 1 :]:
        second.add(np.array(values[len(values) // 2 + 1 :]), 1.0)
    first.join(second)
    assert (first.counts, first.above, first.total) == (whole.counts, whole.above, whole.total)
    ordered = sorted(values)
    for share in (0.5, 0.9, 0.99):
        exact = ordered[max(0, math.ceil(share * len(ordered)) - 1)]
        assert whole.quantile(share) == pytest.approx(exact, rel=0.004)
    assert whole.figures(1.0).exceeds == sum(each > 1.0 for each in values) / len(values)
    assert whole.figures(None).mean == pytest.approx(fmean(values), rel=1e-6, abs=1e-8)


def test_a_limit_is_exceeded_by_the_share_of_samples_above_it() -> None:
    assert figures(np.array([0.1, 0.2, 0.3, 0.4]), 0.2).exceeds == 0.5
    assert figures(np.array([0.1, 0.2]), None).exceeds is None


def test_what_helps_most_is_what_gains_most() -> None:
    slow_gpus = override(
        scenario(VARYING), ["gpu*.latency.STOP_COPY={ median = 0.5, p99 = 0.6 }", "vf[01].parallel=false"]
    )
    found = forecast({"some": slow_gpus}, samples=2000)
    best = found.helps["some"][0]
    assert "PRE_COPY_P2P -> STOP_COPY of gpu0, gpu1 in half" in best.change
    assert best.gains_s == pytest.approx(found.scenarios[0].figures[MECHANISM].p99 - best.p99_s, rel=0.02)
    assert any("parallel changes on for vf0, vf1" in each.change for each in found.helps["some"])
    assert [each.gains_s for each in found.helps["some"]] == sorted(
        (each.gains_s for each in found.helps["some"]), reverse=True
    )


def fleet(count: int = 6) -> dict[str, Scenario]:
    return {f"host{n}": override(scenario(VARYING), [f"vf0.latency.STOP_COPY=0.{n + 1}"]) for n in range(count)}


def written(**how: Any) -> str:
    return json.dumps(forecast(fleet(), samples=1000, seed=4, limit=0.5, most_helps=0, **how).as_json())


def test_every_engine_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfio_migration.fleet.fleet_forecast._PIECE", 15_000)  # so that there are several
    plain = written()
    with ThreadPoolExecutor(3) as threads:
        assert written(executor=threads) == plain
        assert threads.submit(int, "1").result() == 1  # it is not ours to shut down
    assert written(executor=lambda: ThreadPoolExecutor(2)) == plain


@pytest.mark.slow
def test_processes_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfio_migration.fleet.fleet_forecast._PIECE", 15_000)
    plain = written()
    with engine("processes") as make:
        assert written(executor=make) == plain


class _Dying(Executor):
    """Its worker dies over the second piece of work, once for each of `deaths`."""

    deaths = 0

    def __init__(self) -> None:
        self.count = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.count += 1
        if _Dying.deaths and (self.count == 2 or _Dying.deaths > 9):
            _Dying.deaths -= 1
            future.set_exception(BrokenProcessPool("a worker died"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_a_worker_that_dies_costs_time_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfio_migration.fleet.fleet_forecast._PIECE", 15_000)
    monkeypatch.setattr(_Dying, "deaths", 1)
    assert written(executor=_Dying) == written()


def test_workers_that_keep_dying_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Dying, "deaths", 99)
    with pytest.raises(EngineError, match="died 3 times"):
        in_order_of(abs, [1, 2, 3], _Dying)


def _die_once(argument: tuple[int, str]) -> int:
    """Kill this very process, if it is about the second and nobody was killed yet."""
    number, flag = argument
    if number == 2 and not os.path.exists(flag):  # noqa: PTH110 - in another process
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * 10


@pytest.mark.slow
def test_a_process_that_is_killed_is_made_up_for(tmp_path: Path) -> None:
    flag = str(tmp_path / "killed")
    found = in_order_of(_die_once, [(n, flag) for n in range(5)], lambda: ProcessPoolExecutor(2))
    assert found == [0, 10, 20, 30, 40]


def test_engines_that_are_none_say_so() -> None:
    for name, said in (("cloud", "expected 'processes'"), ("dask:", "expected 'processes'")):
        with pytest.raises(EngineError, match=said), engine(name):
            pass


# In a process of its own: Dask keeps threads for its own event loops, and its workers import what they work out.
_WITH_DASK = """
import json, os, signal, sys
import distributed
from vfio_migration.engines import EngineError, engine
from vfio_migration.fleet import fleet_forecast, forecast
from vfio_migration.scenarios import load_scenario, override

varying = "vf*.latency.STOP_COPY={ median = 0.08, p99 = 0.2 }"
fleet = {f"host{n}": override(load_scenario("vfs"), [varying, f"vf0.latency.STOP=0.{n + 1}"]) for n in range(6)}
fleet_forecast._PIECE = 15_000  # so that there are several

def written(**how):
    return json.dumps(forecast(fleet, samples=1000, seed=4, limit=0.5, **how).as_json())

def kill_one(_):
    if not killed:
        killed.append(next(iter(cluster.workers.values())).pid)
        os.kill(killed[0], signal.SIGKILL)

if __name__ == "__main__":
    killed = []
    plain = written()
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with engine(f"dask:{cluster.scheduler_address}") as make:
            assert written(executor=make) == plain
            assert written(executor=make, on_done=kill_one) == plain
            assert killed
    try:
        with engine("dask:tcp://127.0.0.1:1"):
            raise SystemExit("there is no scheduler")
    except EngineError as error:
        assert "no Dask scheduler" in str(error), error
    print("the same bytes")
"""


@pytest.mark.slow
def test_dask_gives_the_same_bytes_though_a_worker_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    script = tmp_path / "with_dask.py"
    script.write_text(_WITH_DASK, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.strip() == "the same bytes", done.stderr


def test_nothing_to_forecast_is_refused() -> None:
    with pytest.raises(ValueError, match="a scenario and a sample"):
        forecast({})
    with pytest.raises(ValueError, match="a scenario and a sample"):
        forecast(fleet(1), samples=0)


def test_all_together_is_all_samples_in_one() -> None:
    found = forecast(fleet(3), samples=3000, most_helps=0)
    every = np.concatenate([samples_of(each, Asked(3000))[0][MECHANISM] for each in fleet(3).values()])
    assert found.all[MECHANISM].p99 == pytest.approx(np.quantile(every, 0.99), rel=0.01)
    assert found.all[MECHANISM].mean == pytest.approx(every.mean(), rel=1e-6)
    assert set(found.all) == set(BOUNDS)
    assert LogNormal(0.08, 0.2).at(0.5) == pytest.approx(0.08)
