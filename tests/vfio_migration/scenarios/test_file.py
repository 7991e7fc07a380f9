import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from suite.machines import NO_PRECOPY, S

from vfio_migration import ScenarioError, VFIOMigration
from vfio_migration.device.state_machine import ALL_FLAGS
from vfio_migration.plan.switchover import PLAIN
from vfio_migration.scenarios.file import bundled_scenarios, load_scenario, parse_scenario, scenario_from_data
from vfio_migration.scenarios.model import HandlerSpec, Scenario
from vfio_migration.scenarios.runner import run_once
from vfio_migration.testing import ScarceThreads
from vmstate import Clock, RunState, VirtualClock

BAD = Path("bad.toml")
TREE = """
description = " a small machine "

[tree]
devices = [
    { bus = "main-system-bus", type = "host", buses = ["pcie.0", "isa.0"] },
    { bus = "pcie.0", type = "port", id = "rp0", buses = ["rp0"] },
    { bus = "rp0", type = "vfio-pci", id = "gpu0" },
    { bus = "pcie.0", type = "vfio-pci", id = "vf0" },
    { bus = "pcie.0", type = "vfio-pci", id = "vf1" },
    { bus = "isa.0", type = "rtc" },
]
"""
VFIO = """
[[vfio]]
devices = "*[01]"
"""


def scenario(text: str) -> Scenario:
    return parse_scenario(text, BAD)


def one(more: str = "") -> Scenario:
    """A scenario of one device."""
    return scenario(f'{TREE}\n[[vfio]]\ndevices = "vf0"\n{more}')


# What can be described:


@pytest.mark.parametrize("name", bundled_scenarios())
def test_a_bundled_scenario_loads_by_its_name(name: str) -> None:
    loaded = load_scenario(name)
    assert loaded.name == name
    assert bundled_scenarios()[name] == loaded.description != ""


def test_the_bundled_scenarios_are_those_that_load_by_name() -> None:
    assert list(bundled_scenarios()) == ["gpus", "host", "mixed", "mlx5", "vfs"]


def test_host_has_its_vfs_three_and_its_gpus_five_buses_down() -> None:
    depths = {spec.id: spec.depth for spec in load_scenario("host").devices}
    assert depths == {f"vf{n}": 3 for n in range(4)} | {f"gpu{n}": 5 for n in range(4)}


def test_a_written_out_tree_becomes_the_machine_s() -> None:
    loaded = scenario(
        TREE
        + """
        [[vfio]]
        devices = "gpu*"
        state_size = 1000
        rate = 500
        seed = 7
        parallel = false
        events = true
        [[vfio]]
        devices = "vf?"
        precopy_size = 10
        precopy_dirty = [5]
        [[handlers]]
        types = "rtc"
        stop = 0.5
        prepare_start = 1
        [[handlers]]
        devices = "rp0"
        name = "port"
        [[handlers]]
        priority = -3
        start = 0.25
        """
    )
    assert (loaded.name, loaded.description) == ("bad", "a small machine")
    assert [(each.id, each.depth, each.flags) for each in loaded.devices] == [
        ("gpu0", 3, ALL_FLAGS),
        ("vf0", 2, ALL_FLAGS),
        ("vf1", 2, ALL_FLAGS),
    ]
    gpu0, vf0, vf1 = loaded.devices
    assert (gpu0.entry.state_size, gpu0.transfer_s, gpu0.seed, gpu0.entry.parallel, gpu0.entry.events) == (
        1000,
        2.0,
        7,
        False,
        True,
    )
    assert (vf0.entry.state_size, vf0.transfer_s, vf0.entry.parallel, vf0.entry.events) == (65536, 0.0, True, False)
    assert (vf0.entry.precopy_size, vf0.entry.precopy_dirty) == (10, (5,))
    assert vf0.seed != vf1.seed
    assert loaded.handlers == (
        HandlerSpec("rtc", 2, 5, 0, stop_s=0.5, start_s=0.0, prepare_stop_s=0.0, prepare_start_s=1.0),
        HandlerSpec("port", 2, 1, 0, stop_s=0.0, start_s=0.0, prepare_stop_s=0.0, prepare_start_s=0.0),
        HandlerSpec("priority -3", PLAIN, None, -3, stop_s=0.0, start_s=0.25, prepare_stop_s=0.0, prepare_start_s=0.0),
    )


def test_a_tree_can_be_read_from_a_qtree_file_beside_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "tree.txt").write_text('bus: main-system-bus\n  dev: vfio-pci, id "vf0"\n', encoding="utf-8")
    file = tmp_path / "mine.toml"
    file.write_text(f'[tree]\nqtree = "tree.txt"\n{VFIO}', encoding="utf-8")
    loaded = load_scenario(file)
    assert (loaded.name, [(each.id, each.depth) for each in loaded.devices]) == ("mine", [("vf0", 1)])


def test_a_file_of_that_name_comes_before_a_bundled_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vfs").write_text(TREE + VFIO, encoding="utf-8")
    assert load_scenario("vfs").description == "a small machine"


@pytest.mark.parametrize(
    ("latency", "seconds"),
    [
        ("{ default = 1 }", {(S.STOP, S.RUNNING_P2P): 1, (S.RUNNING, S.RUNNING_P2P): 1, (S.STOP, S.RESUMING): 1}),
        (
            "{ default = 1, RUNNING_P2P = 2 }",
            {(S.STOP, S.RUNNING_P2P): 2, (S.RUNNING, S.RUNNING_P2P): 2, (S.STOP, S.RESUMING): 1},
        ),
        (
            '{ "STOP -> RUNNING_P2P" = 3, RUNNING_P2P = 2, default = 1 }',
            {(S.STOP, S.RUNNING_P2P): 3, (S.RUNNING, S.RUNNING_P2P): 2, (S.STOP, S.RESUMING): 1},
        ),
        (
            '{ "STOP -> RUNNING_P2P" = 0, RUNNING_P2P = 2 }',
            {(S.STOP, S.RUNNING_P2P): 0, (S.RUNNING, S.RUNNING_P2P): 2, (S.STOP, S.RESUMING): 0},
        ),
    ],
)
def test_an_arc_s_own_latency_comes_before_its_target_s_and_that_before_the_default(
    latency: str, seconds: dict[tuple[S, S], float]
) -> None:
    (device,) = one(f"latency = {latency}").devices
    assert {arc: device.latency[arc] for arc in seconds} == seconds


def test_a_device_without_p2p_has_the_arcs_that_skip_it() -> None:
    (device,) = one('p2p = false\nlatency = { "RUNNING -> STOP" = 1 }').devices
    assert device.latency[S.RUNNING, S.STOP] == 1
    assert (S.RUNNING, S.RUNNING_P2P) not in device.latency


def test_a_built_machine_has_its_devices_and_handlers_and_takes_their_time() -> None:
    clock = VirtualClock()
    built = one("precopy = false\nlatency = { STOP = 2 }\n[[handlers]]\npriority = 0\nstop = 3\nstart = 0.5\n").build(
        "vm", clock=clock
    )
    (device,) = built.machine.migratables
    assert isinstance(device, VFIOMigration)
    assert device.vfio_device.backend is built.mocks["vf0"]
    assert built.mocks["vf0"].flags == NO_PRECOPY
    built.machine.start()
    assert clock.now() == 500_000_000
    built.machine.stop(RunState.PAUSED)
    assert clock.now() == 5_500_000_000
    assert device.device_state is S.STOP


def test_source_and_destination_have_devices_with_different_states() -> None:
    loaded = scenario(TREE + VFIO)
    sides = [loaded.build("vm", clock=VirtualClock(), destination=destination) for destination in (False, True)]
    hashes = [mock.state_hash for side in sides for mock in side.mocks.values()]
    assert len(set(hashes)) == len(hashes) == 6 + 2


def test_serial_is_the_same_machine_with_parallel_changes_off() -> None:
    loaded = scenario(TREE + VFIO)
    assert {spec.entry.parallel for spec in loaded.devices} == {True}
    assert {spec.entry.parallel for spec in loaded.serial().devices} == {False}
    assert loaded.serial().plan().bounds.serial_s == loaded.plan().bounds.serial_s


def test_the_threads_key_says_which_devices_keep_a_thread_and_closing_the_machine_ends_it() -> None:
    loaded = one(f'threads = "parked"\n{VFIO.replace("*[01]", "*[!0]")}')
    assert {spec.id: spec.entry.threads for spec in loaded.devices} == {"vf0": "parked", "vf1": "per-change"}
    before = set(threading.enumerate())
    built = loaded.build("vm", clock=VirtualClock())
    (kept,) = set(threading.enumerate()) - before
    assert kept.name == "vfio_parked vf0"
    built.machine.start()
    built.machine.stop()
    built.close()
    assert not kept.is_alive()


def test_a_machine_that_is_refused_a_thread_keeps_none() -> None:
    loaded = scenario(f'{TREE}[[vfio]]\ndevices = "vf[0-9]"\nthreads = "parked"\n')
    assert len(loaded.devices) == 2
    before = set(threading.enumerate())
    clock = ScarceThreads(VirtualClock(), pattern="vfio_parked vf1")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        loaded.build("vm", clock=clock)
    assert set(threading.enumerate()) == before


def test_a_scenario_migrates_with_threads_of_either_kind(threads: str, clock: Clock) -> None:
    for loaded in (scenario(f'{TREE}{VFIO}threads = "{threads}"'), scenario(TREE + VFIO).with_threads(threads)):
        assert {spec.entry.threads for spec in loaded.devices} == {threads}
        assert run_once(loaded, clock).completed


# What cannot:

BARE_VFIO = '[[vfio]]\ndevices = "vf0"\n'
BAD_FILES = {
    "no TOML": ("[tree", ["expected TOML"]),
    "an integer without end": (f"x = {'9' * 5000}", ["expected TOML"]),
    "nesting without end": ("x = " + "{ a = " * 5000, ["expected TOML"]),
    "empty": ("", ["tree"]),
    "no tree": (VFIO, ["tree"]),
    "no vfio": (TREE, ["vfio"]),
    "vfio is no list": ("vfio = 3\n" + TREE, ["vfio", "an array, got a whole number", "write [[vfio]], once"]),
    "unknown key at the top": ("colour = 1\n" + TREE + VFIO, ["colour"]),
    "unknown key of a device group": (TREE + BARE_VFIO + "lateny = 1", ["vfio[0]", "lateny"]),
    "unknown key of a handler": (TREE + BARE_VFIO + "[[handlers]]\nstopp = 1", ["handlers[0]", "stopp"]),
    "unknown key in the tree": ("[tree]\nqtre = 'x'\n" + VFIO, ["tree", "qtre"]),
    "neither qtree nor devices": ("[tree]\n" + VFIO, ["tree", "qtree", "devices"]),
    "both": (TREE + 'qtree = "x.txt"\n' + VFIO, ["tree", "either"]),
    "qtree file is missing": ('[tree]\nqtree = "no.txt"\n' + VFIO, ["tree.qtree", "info qtree", "no.txt", "No such"]),
    "qtree file is something else": ('[tree]\nqtree = "text"\n' + VFIO, ["tree.qtree", "line 1", "bus: NAME"]),
    "qtree is no path": ('[tree]\nqtree = "\\u0000"\n' + VFIO, ["tree.qtree", "info qtree"]),
    "a bus that nobody has": (
        TREE.replace('"isa.0", type', '"usb.0", type') + VFIO,
        ["tree.devices[5].bus", "'usb.0'", "pcie.0"],
    ),
    "a bus twice": (TREE.replace('["rp0"]', '["isa.0"]') + VFIO, ["tree.devices[1].buses", "'isa.0'"]),
    "a device on no bus": (TREE.replace('bus = "isa.0", ', "") + VFIO, ["tree.devices[5]", "bus"]),
    "an id twice": (TREE.replace('"vf1"', '"vf0"') + VFIO, ["vfio[0].devices", "'vf0'"]),
    "no device of that id": (TREE + VFIO.replace("*[01]", "nic*"), ["vfio[0].devices", "'nic*'", "vf0", "gpu0"]),
    "a device in two groups": (TREE + BARE_VFIO + VFIO, ["vfio[1].devices", "'vf0'"]),
    "no device at all": ("vfio = []\n" + TREE, ["vfio", "at least one"]),
    "two devices, one without p2p": (TREE + BARE_VFIO + 'p2p = false\n[[vfio]]\ndevices = "vf1"', ["p2p", "vf0"]),
    "no such threads": (
        TREE + BARE_VFIO + 'threads = "green"',
        ["vfio[0].threads", "one of 'per-change', 'parked'", "got 'green'"],
    ),
    "no such fault": (
        TREE + VFIO + '[[faults]]\ndevice = "vf0"\nat = "reset"\nkind = "odd"',
        ["faults[0].kind", "one of 'fail', 'into-error', 'stall', 'short', 'altered', 'cut', got 'odd'"],
    ),
    "a size that is no number": (TREE + BARE_VFIO + 'state_size = "1k"', ["vfio[0].state_size", "5 MB", "'1k'"]),
    "a negative size": (TREE + BARE_VFIO + "state_size = -1", ["vfio[0].state_size", "0 or more", "-1"]),
    "a negative pre-copy": (TREE + BARE_VFIO + "precopy_size = -1", ["vfio[0].precopy_size", "0 or more", "-1"]),
    "a negative round": (TREE + BARE_VFIO + "precopy_dirty = [1, -1]", ["vfio[0].precopy_dirty", "0 or more"]),
    "a rate of nothing": (TREE + BARE_VFIO + "rate = 0", ["vfio[0].rate", "more than 0", "0"]),
    "a rate without end": (TREE + BARE_VFIO + "rate = inf", ["vfio[0].rate", "more than 0", "inf"]),
    "a latency in the past": (TREE + BARE_VFIO + "latency.default = -1", ["vfio[0].latency.'default'", "0 or more"]),
    "an endless latency": (TREE + BARE_VFIO + "latency = { STOP = nan }", ["vfio[0].latency.'STOP'", "seconds"]),
    "a latency that is no number": (
        TREE + BARE_VFIO + 'latency = { default = 1, STOP = "2 mm" }',
        ["vfio[0].latency", "STOP", "number", "2 mm", "units: s, ms, us"],
    ),
    "no state of that name": (TREE + BARE_VFIO + "latency = { STOPPED = 1 }", ["vfio[0].latency.'STOPPED'", "a state"]),
    "no arc of that name": (
        TREE + BARE_VFIO + 'latency = { "RUNNING -> STOP" = 1 }',
        ["vfio[0].latency.'RUNNING -> STOP'", "an arc of this device", " -> "],
    ),
    "an arc that this device lacks": (
        TREE + BARE_VFIO + 'precopy = false\nlatency = { "RUNNING -> PRE_COPY" = 1 }',
        ["vfio[0].latency.'RUNNING -> PRE_COPY'", "an arc of this device"],
    ),
    "a handler of nothing": (TREE + BARE_VFIO + "[[handlers]]\nstop = 1", ["handlers[0]", "exactly one"]),
    "a handler of two kinds": (
        TREE + BARE_VFIO + '[[handlers]]\npriority = 0\ntypes = "rtc"',
        ["handlers[0]", "exactly one", "priority"],
    ),
    "a handler of no device": (
        TREE + BARE_VFIO + '[[handlers]]\npriority = 0\n[[handlers]]\ndevices = "disk"',
        ["handlers[1].devices", "'disk'", "vf0"],
    ),
    "a handler of no type": (TREE + BARE_VFIO + '[[handlers]]\ntypes = "disk"', ["handlers[0].types", "'disk'", "rtc"]),
    "a handler's negative time": (
        TREE + BARE_VFIO + "[[handlers]]\npriority = 0\nprepare_stop = -1",
        ["handlers[0].prepare_stop", "0 or more", "-1"],
    ),
    "a priority that is no integer": (
        TREE + BARE_VFIO + "[[handlers]]\npriority = 1.5",
        ["handlers[0].priority", "expected a whole number, got a number"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "fragments"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_gives_an_error_with_file_key_and_expectation(
    tmp_path: Path, text: str, fragments: list[str]
) -> None:
    (tmp_path / "text").write_text("nothing like a tree", encoding="utf-8")
    file = tmp_path / "bad.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert [fragment for fragment in fragments if fragment not in message] == [], message


LONG = "a" * 300


@pytest.mark.parametrize("name", ["nowhere", "no/such.toml", "", ".", "\0", "host.toml", LONG, f"{LONG}.toml"])
def test_a_scenario_that_is_not_there_gives_an_error_with_the_name_and_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ScenarioError, match=r"(?s)cannot be read.*expected the path .*gpus, host, mixed, mlx5, vfs"
    ) as caught:
        load_scenario(name)
    assert str(caught.value).startswith(f"{name}: ")


def test_a_file_that_is_no_text_gives_such_an_error_too(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match=r"bad\.toml: cannot be read"):
        load_scenario(file)


toml_like = st.lists(
    st.sampled_from([*"[]{}=,.\"'#\n0x_-+:Te", "\n[tree]\n", "\n[[vfio]]\n", "devices", "latency", "inf", "1979-05-27"])
    | st.characters(codec="utf-8")
    | st.integers().map(str)
).map("".join)


@settings(max_examples=300)
@given(toml_like)
@example("[tree]\ndevices = [{ bus = 'main-system-bus', id = '['}]\n[[vfio]]\ndevices = '['")
def test_no_text_whatever_raises_anything_but_a_scenario_error(text: str) -> None:
    try:
        scenario(text)
    except ScenarioError as error:
        assert str(error).startswith("bad.toml: ")  # noqa: PT017 - most texts, but not all, are refused


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -(10**30), 10**400, -(10**400)])
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["main-system-bus", "pcie.0", "vf0", "*", "[", "\0"])
    | st.dates()
)
# fmt: off
keys = st.sampled_from(
    [
        "tree", "vfio", "handlers", "description", "qtree", "devices", "bus", "id", "type", "buses", "p2p",
        "precopy", "parallel", "events", "latency", "state_size", "rate", "precopy_size", "precopy_dirty",
        "seed", "types", "priority", "name", "stop", "start", "prepare_stop", "prepare_start", "default",
        "STOP",
    ]
)
# fmt: on
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=10
)


def table(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A table with some of the keys that are known, mostly with values that fit."""
    return st.fixed_dictionaries({}, optional={key: value | values for key, value in known.items()})


seconds = st.floats(0, 10)
nearly = st.fixed_dictionaries(
    {
        "tree": st.fixed_dictionaries(
            {
                "devices": st.lists(
                    st.fixed_dictionaries(
                        {"bus": st.sampled_from(["main-system-bus", "b0", "b1"])},
                        optional={
                            "id": st.sampled_from(["", "vf0", "vf1", "[", "*"]),
                            "buses": st.lists(st.sampled_from(["b0", "b1", "b2"]), max_size=2),
                        },
                    ),
                    max_size=4,
                )
            }
        ),
        "vfio": st.lists(
            st.fixed_dictionaries({"devices": st.sampled_from(["*", "vf*", "vf0", "["])}).flatmap(
                lambda group: table(
                    p2p=st.booleans(),
                    precopy=st.booleans(),
                    latency=st.dictionaries(st.sampled_from(["default", "STOP", "STOP -> RESUMING"]), seconds | values),
                    state_size=st.integers(),
                    rate=st.floats(),
                    precopy_dirty=st.lists(st.integers()),
                ).map(lambda more: more | group)
            ),
            max_size=2,
        ),
    },
    optional={"handlers": st.lists(table(priority=st.integers(), types=st.just("*"), stop=seconds), max_size=2)},
)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.dictionaries(keys, values, max_size=5) | nearly)
def test_no_data_whatever_raises_anything_but_a_scenario_error_and_what_loads_can_be_planned(
    data: dict[str, Any],
) -> None:
    try:
        loaded = scenario_from_data(data, BAD)
    except ScenarioError as error:
        assert str(error).startswith("bad.toml: ")  # noqa: PT017 - most data, but not all, is refused
    else:
        assert loaded.plan().bounds.serial_s >= 0


def test_a_size_that_no_number_of_seconds_can_send_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"vfio\[0\]\.state_size"):
        one(f"state_size = {'9' * 400}\nrate = 1.0")
