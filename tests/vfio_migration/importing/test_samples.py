"""Many migrations make one scenario: what they took, to the microsecond; which of them count; what is said of it."""

import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite.qemu_logs import CAPTURES, HOST_QTREE, destination_log, logs_of_run, source_log

from vfio_migration import ALL_FLAGS, DeviceState
from vfio_migration.errors import LogImportError
from vfio_migration.importing import ImportedScenario, import_logs, import_samples
from vfio_migration.importing.attempts import LoggedMigrations
from vfio_migration.importing.collected_arcs import collect_arcs
from vfio_migration.importing.destinations import destinations_of
from vfio_migration.importing.findings import Findings, FoundDevice
from vfio_migration.importing.log_reader import read_log
from vfio_migration.importing.samples import median_migration
from vfio_migration.importing.taken_migrations import PairOfLogs, TakenMigration
from vfio_migration.scenarios import Scenario, override
from vfio_migration.scenarios.distributions import Samples
from vfio_migration.scenarios.file import load_scenario, parse_scenario

S = DeviceState
Pair = tuple[Path, Path | None]
MICROSECOND = 1.01e-6
PREPARE, MAIN = (S.PRE_COPY, S.PRE_COPY_P2P), (S.PRE_COPY_P2P, S.STOP_COPY)
ARRIVE, START = (S.RESUMING, S.STOP), (S.RUNNING_P2P, S.RUNNING)
VARYING = [
    "vf*.latency.STOP_COPY={ median = 0.08, p99 = 0.2 }",
    "vf*.latency.PRE_COPY_P2P={ min = 0.01, max = 0.05 }",
    "vf*.latency.RUNNING_P2P={ median = 0.1, p99 = 0.3 }",
]


def varying() -> Scenario:
    return override(load_scenario("vfs"), VARYING)


def drawn_runs(folder: Path, seeds: Iterable[int], *, serial: bool = True) -> tuple[list[Scenario], list[Pair]]:
    """Run a scenario whose latencies vary once for each seed: what each run drew, and its logs."""
    scenarios, pairs = [], []
    for seed in seeds:
        place = folder / str(seed)
        place.mkdir()
        drawn = varying().drawn(Random(seed))
        scenarios.append(drawn)
        pairs.append(logs_of_run(drawn.serial() if serial else drawn, place))
    return scenarios, list(pairs)


def assert_took(imported: ImportedScenario, drawn: Sequence[Scenario]) -> None:
    """Check that each device's samples are what was drawn for it."""
    for place, spec in enumerate(imported.scenario.devices):
        latencies = [each.devices[place].latency for each in drawn]
        expected = {
            PREPARE: [each[PREPARE] for each in latencies],
            MAIN: [each[MAIN] for each in latencies],
            ARRIVE: [each[ARRIVE] + each[S.STOP, S.RUNNING_P2P] for each in latencies],
        }
        assert set(spec.varying) == set(expected)
        for arc, seconds in expected.items():
            found = spec.varying[arc]
            assert isinstance(found, Samples)
            assert found.values == pytest.approx(sorted(seconds), abs=MICROSECOND)
        assert spec.latency[START] == pytest.approx(latencies[0][START], abs=MICROSECOND)


def text_of(pair: Pair) -> list[str]:
    return ["" if file is None else file.read_text(encoding="utf-8") for file in pair]


def one_after_another(folder: Path, pairs: Sequence[Sequence[str]]) -> Pair:
    """Write the logs of both sides as one each, a day after another."""
    files = folder / "all-src.log", folder / "all-dst.log"
    for side, file in enumerate(files):
        days = [texts[side].replace("1970-01-01T", f"1970-01-{day:02}T") for day, texts in enumerate(pairs, 1)]
        file.write_text("".join(days), encoding="utf-8")
    return files


def given_up(pair: Pair, status: str) -> tuple[str, str]:
    """Give the logs of a migration that ended before the switchover, so that nothing completed on the other side."""
    source, destination = text_of(pair)
    before, mark, _ = source.partition(" vmstate_downtime_checkpoint src-downtime-start")
    assert mark
    kept, _, moment = before.rpartition("\n")
    arrived = destination.partition(" vmstate_downtime_checkpoint")[0].rpartition("\n")[0]
    return f"{kept}\n{moment} migrate_set_state new state {status}\n", f"{arrived}\n"


def body(text: str) -> dict[str, Any]:
    data = tomllib.loads(text)
    del data["description"]
    return data


# What was drawn is what is imported:


@pytest.mark.parametrize("serial", [True, False], ids=["serial", "parallel"])
def test_the_samples_of_many_logs_are_what_their_runs_drew(serial: bool, tmp_path: Path) -> None:
    drawn, pairs = drawn_runs(tmp_path, range(5), serial=serial)
    imported = import_samples(pairs)
    assert_took(imported, drawn)
    assert imported.notes[0].startswith("5 migrations of 5 logs of sources count, with downtimes from ")
    assert parse_scenario(imported.text, Path("x.toml")).devices == imported.scenario.devices


def test_so_are_those_of_one_log_with_many_migrations(tmp_path: Path) -> None:
    drawn, pairs = drawn_runs(tmp_path, range(4))
    imported = import_samples([one_after_another(tmp_path, list(map(text_of, pairs)))], all_migrations=True)
    assert_took(imported, drawn)
    assert imported.notes[0].startswith("4 migrations of 1 logs of sources count")
    assert not any("left out" in note for note in imported.notes)


def test_a_guest_that_goes_to_and_fro_gives_samples_of_both_ways(tmp_path: Path) -> None:
    drawn, pairs = drawn_runs(tmp_path, range(4))
    texts = [text_of(pair)[:: -1 if number % 2 else 1] for number, pair in enumerate(pairs)]
    here, there = one_after_another(tmp_path, texts)
    assert there is not None
    assert_took(import_samples([(here, there)], all_migrations=True), drawn[::2])
    assert_took(import_samples([(there, here)], all_migrations=True), drawn[1::2])
    assert_took(import_samples([(here, there), (there, here)], all_migrations=True), drawn)


def test_without_all_migrations_the_last_of_each_log_counts(tmp_path: Path) -> None:
    drawn, pairs = drawn_runs(tmp_path, range(4))
    first = one_after_another(tmp_path, list(map(text_of, pairs[:3])))
    imported = import_samples([first, pairs[3]])
    assert_took(imported, drawn[2:])
    (left,) = (note for note in imported.notes if "left out" in note)
    assert left == (
        f"{first[0]}: left out: 1 (completed), 2 (completed): only the last that completed counts, without "
        "--all-migrations"
    )


@pytest.mark.parametrize("destination_lived", [True, False])
def test_those_that_did_not_complete_are_left_out_and_named(destination_lived: bool, tmp_path: Path) -> None:
    drawn, pairs = drawn_runs(tmp_path, range(3))
    cancelled, failed = given_up(pairs[0], "cancelled"), given_up(pairs[1], "failed")
    if not destination_lived:
        cancelled, failed = (cancelled[0], ""), (failed[0], "")
    texts = [cancelled, text_of(pairs[0]), failed, text_of(pairs[1]), text_of(pairs[2])]
    both = one_after_another(tmp_path, texts)
    statuses = LoggedMigrations(read_log(both[1] or "")).statuses["destination"]
    assert len(statuses) == (5 if destination_lived else 3)
    imported = import_samples([both], all_migrations=True)
    assert_took(imported, drawn)
    assert f"{both[0]}: left out: 1 (cancelled), 3 (failed)" in imported.notes
    assert f"# - {both[0]}: left out: 1 (cancelled), 3 (failed)\n" in imported.text


def test_a_log_in_which_nothing_completed_is_left_out_beside_others_and_an_error_alone(tmp_path: Path) -> None:
    drawn, pairs = drawn_runs(tmp_path, range(3))
    only = tmp_path / "cancelled.log"
    only.write_text(given_up(pairs[2], "cancelled")[0], encoding="utf-8")
    imported = import_samples([(only, pairs[2][1]), *pairs[:2]])
    assert_took(imported, drawn[:2])
    assert f"{only}: left out: 1 (cancelled)" in imported.notes
    with pytest.raises(LogImportError, match=r"cancelled.log, line \d+: no migration in the log completed"):
        import_samples([(only, None)])


def test_all_that_is_no_latency_is_the_median_migration_s(tmp_path: Path) -> None:
    _, pairs = drawn_runs(tmp_path, range(5))
    found = [LoggedMigrations(read_log(source)).completed("source") for source, _ in pairs]
    downtimes = [each.downtime_s for each in found if each is not None and each.downtime_s is not None]
    median = pairs[downtimes.index(sorted(downtimes)[2])]
    imported, alone = import_samples(pairs), import_logs(*median)
    expected, data = body(alone.text), body(imported.text)
    latencies = [entry.pop("latency") for entry in data["vfio"]]
    single = [entry.pop("latency") for entry in expected["vfio"]]
    assert data == expected
    for many, one in zip(latencies, single, strict=True):
        assert set(many) == set(one)
        assert all(one[arc] in (many[arc]["samples"] if isinstance(many[arc], dict) else [many[arc]]) for arc in one)
    name = f"migration 1 of {str(median[0])!r} and {str(median[1])!r}"
    assert name in imported.text.partition("\n")[0]
    assert name in imported.scenario.description
    assert set(alone.notes) < set(imported.notes)
    assert alone.report[-1] == imported.report[-1]


CAPTURED = sorted({file.name.removesuffix("-src.trace.log") for file in CAPTURES.glob("*-src.trace.log")} - {"cancel"})


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("name", CAPTURED)
def test_one_migration_is_as_import_logs_has_it(name: str, every: bool) -> None:
    files = CAPTURES / f"{name}-src.trace.log", CAPTURES / f"{name}-dst.trace.log"
    try:
        alone = import_logs(*files)
    except LogImportError as error:
        with pytest.raises(LogImportError) as raised:
            import_samples([files], all_migrations=every)
        assert str(raised.value) == str(error)  # noqa: PT017 - what both say
    else:
        assert body(import_samples([files], all_migrations=every).text) == body(alone.text)


def test_the_tree_places_the_devices_of_all(tmp_path: Path) -> None:
    pairs: list[Pair] = []
    for number in (1, 2):
        log = source_log({"vf0": (30 * number, 80, 10), "gpu0": (40, 100, 20)})
        pairs.append((log.write(tmp_path / f"{number}.log"), None))
    imported = import_samples(pairs, HOST_QTREE)
    assert [(spec.id, spec.depth) for spec in imported.scenario.devices] == [("vf0", 3), ("gpu0", 5)]
    assert imported.scenario.devices[0].varying == {PREPARE: Samples((0.03, 0.06))}
    assert sum("without a log of the destination" in note for note in imported.notes) == 1


def test_what_a_device_took_twice_is_twice_as_likely(tmp_path: Path) -> None:
    pairs: list[Pair] = []
    for number, ms in enumerate((10, 20, 10)):
        pairs.append((source_log({"vf0": (ms, 80, 10)}).write(tmp_path / f"{number}.log"), None))
    (spec,) = import_samples(pairs).scenario.devices
    assert spec.varying == {PREPARE: Samples((0.01, 0.01, 0.02))}
    assert spec.latency[MAIN] == 0.08


# What is not in all of them:


def test_devices_are_matched_by_name_and_those_that_some_lack_are_named(tmp_path: Path) -> None:
    logs = [{"vf0": 10.0, "vf1": 1.0}, {"vf1": 2.0, "vf0": 20.0}, {"vf0": 30.0}, {"vf0": 40.0, "vf9": 4.0}]
    pairs: list[Pair] = []
    for number, times in enumerate(logs):
        log = source_log({name: (ms, 80, 10 + number) for name, ms in times.items()})
        pairs.append((log.write(tmp_path / f"{number}.log"), None))
    imported = import_samples(pairs)  # of the four downtimes the first is the second
    assert {spec.id: spec.varying for spec in imported.scenario.devices} == {
        "vf0": {PREPARE: Samples((0.01, 0.02, 0.03, 0.04))},
        "vf1": {PREPARE: Samples((0.001, 0.002))},
    }
    assert "'vf1' is in 2 of 4 migrations: what it took is of those" in imported.notes
    assert "'vf9' is left out: it is in 1 of 4 migrations, and not in the median one" in imported.notes


def test_a_pair_without_a_destination_gives_samples_of_the_source_only(tmp_path: Path) -> None:
    pairs: list[Pair] = []
    for number in (1, 2, 3):
        source = source_log({"vf0": (number, 80, 10)}).write(tmp_path / f"{number}-src.log")
        there = destination_log({"vf0": (10 * number, 35)}).write(tmp_path / f"{number}-dst.log")
        pairs.append((source, None if number == 2 else there))
    imported = import_samples(pairs)
    assert imported.scenario.devices[0].varying == {
        PREPARE: Samples((0.001, 0.002, 0.003)),
        ARRIVE: Samples((0.01, 0.03)),
    }
    assert "RESUMING -> STOP of 'vf0' is in 2 of 3 migrations: what it took is of those" in imported.notes
    assert "migration 1 of" in imported.notes[0]
    assert str(pairs[0][1]) in imported.notes[0]  # the median of those that are whole
    assert not any("without a log of the destination" in note for note in imported.notes)


def test_which_of_the_destination_s_belongs_to_which_may_be_unknown(tmp_path: Path) -> None:
    _, pairs = drawn_runs(tmp_path, range(3))
    texts = list(map(text_of, pairs))
    texts[0][1] = ""
    both = one_after_another(tmp_path, texts)
    imported = import_samples([both], all_migrations=True)
    for spec in imported.scenario.devices:
        main = spec.varying[MAIN]
        assert isinstance(main, Samples)
        assert len(main.values) == 3
        assert ARRIVE not in spec.varying  # as only the last is sure
    assert (
        f"{both[0]} and {both[1]} hold 3 (3 completed) and 2 (2 completed) migrations: what the destination took is "
        "unknown for 1, 2, and in no sample"
    ) in imported.notes


def test_one_that_completed_and_cannot_be_used_is_left_out_with_the_reason(tmp_path: Path) -> None:
    drawn, pairs = drawn_runs(tmp_path, range(3))
    texts = list(map(text_of, pairs))
    lines = texts[1][0].splitlines(keepends=True)
    texts[1][0] = "".join(line for line in lines if " vfio_" not in line)
    # What follows a migration is taken for its own until the next one is set up: here no machine is made in between.
    texts[2][0] = texts[2][0][
        texts[2][0].rindex("\n", 0, texts[2][0].index(" migrate_set_state new state setup")) + 1 :
    ]
    both = one_after_another(tmp_path, texts)
    imported = import_samples([both], all_migrations=True)
    assert_took(imported, [drawn[0], drawn[2]])
    (left,) = (note for note in imported.notes if note.startswith("left out: "))
    assert f"{both[0]}, line" in left
    assert "no VFIO device changes its state in the switchover of migration 2" in left


def test_of_others_than_the_median_one_a_note_of_each_kind_is_given(tmp_path: Path) -> None:
    pairs: list[Pair] = []
    for number in range(1, 8):
        odd = number in (1, 2)
        log = source_log({"vf0": (number, 80, 10)}, detail=not odd)
        pairs.append((log.write(tmp_path / f"{number}.log"), None))
    imported = import_samples(pairs)
    said = [note for note in imported.notes if "does not say when a change of state began" in note]
    assert len(said) == 1
    assert said[0].startswith(f"migration 1 of {str(pairs[0][0])!r}: ")


# What is no use:


def test_errors_name_the_log(tmp_path: Path) -> None:
    _, pairs = drawn_runs(tmp_path, range(2))
    (source, destination), whole = pairs
    assert destination is not None
    with pytest.raises(LogImportError, match=r"dst.log, line .*it is the log of a destination") as raised:
        import_samples([whole, (destination, source)])
    assert any("migration 1 (source): completed" in line for line in import_samples([whole]).report)
    assert raised.value.report == ()
    with pytest.raises(LogImportError, match=r"gone.log: cannot be read"):
        import_samples([whole, (tmp_path / "gone.log", None)])
    with pytest.raises(LogImportError, match=r"src.log, line \d+: no migration into this machine completed"):
        import_samples([whole, (source, source)])
    with pytest.raises(LogImportError, match=r"0/run-src.log: the log is given twice"):
        import_samples([(source, destination), whole, (tmp_path / "." / "0" / "run-src.log", None)])
    with pytest.raises(LogImportError, match="expected one pair of logs or more, got none"):
        import_samples([])
    cut = tmp_path / "cut.log"
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    cut.write_text("".join(line for line in lines if " vfio_" not in line), encoding="utf-8")
    with pytest.raises(LogImportError, match=r"cut.log, line \d+: no VFIO device"):
        import_samples([whole, (cut, None)])


def test_a_log_that_holds_less_when_it_is_read_again_is_an_error(tmp_path: Path) -> None:
    log = source_log({"vf0": (1, 2, 3)}).write(tmp_path / "src.log")
    (taken,) = PairOfLogs(log, None, {1: None}).taken(Findings(), None)
    assert taken.downtime_s == pytest.approx(0.006)
    with pytest.raises(LogImportError, match=r"src.log: holds less when it is read once more"):
        list(PairOfLogs(log, None, {1: None, 2: None}).taken(Findings(), None))


# Rules:

STATUSES = st.lists(st.sampled_from(["completed", "cancelled", "failed", "active"]), max_size=8)


@given(STATUSES, STATUSES)
def test_pairs_rise_on_both_sides_and_hold_what_completed(source: list[str], destination: list[str]) -> None:
    pairs = destinations_of(source, destination)
    assert list(pairs) == [place for place, status in enumerate(source, 1) if status == "completed"]
    there = [number for number in pairs.values() if number is not None]
    assert there == sorted(set(there))
    assert all(destination[number - 1] == "completed" for number in there)
    if source.count("completed") == destination.count("completed") and len(source) != len(destination):
        assert len(there) == len(pairs)
    if len(source) == len(destination):
        assert all(number in (None, place) for place, number in pairs.items())


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), min_size=1, max_size=20))
def test_the_median_has_as_many_on_either_side(each: list[tuple[float, bool]]) -> None:
    taken = [TakenMigration("x", 1, "y" if whole else None, downtime, None, Findings(), ()) for downtime, whole in each]
    median = median_migration(taken)
    whole = [one.downtime_s for one in taken if one.destination is not None]
    assert (median.destination is None) == (not whole)
    among = whole or [one.downtime_s for one in taken]
    assert 2 * sum(downtime < median.downtime_s for downtime in among) < len(among)
    assert 2 * sum(downtime > median.downtime_s for downtime in among) <= len(among)


ARCS = st.dictionaries(st.sampled_from([PREPARE, MAIN, ARRIVE, START]), st.integers(0, 5))
DEVICES = st.dictionaries(st.sampled_from(["vf0", "vf1", "vf2"]), ARCS)


@given(st.lists(DEVICES, min_size=1, max_size=6), st.data())
def test_no_sample_of_the_median_s_devices_is_lost_and_none_is_made_up(
    migrations: list[dict[str, dict[tuple[DeviceState, DeviceState], int]]], data: st.DataObject
) -> None:
    everything = [
        Findings({name: FoundDevice(name, ALL_FLAGS, arcs=dict(arcs)) for name, arcs in each.items()})
        for each in migrations
    ]
    chosen, about = data.draw(st.sampled_from(everything)), Findings()
    collect_arcs(about, chosen, everything)
    for name, device in chosen.devices.items():
        expected: dict[tuple[DeviceState, DeviceState], list[int]] = {}
        for each in migrations:
            for arc, ns in each.get(name, {}).items():
                expected.setdefault(arc, []).append(ns)
        assert {arc: Counter(values) for arc, values in device.samples.items()} == {
            arc: Counter(values) for arc, values in expected.items()
        }
        assert set(device.arcs) == set(device.samples)
    missing = {name for each in migrations for name in each} - set(chosen.devices)
    assert {
        name for name in missing if any(note.startswith(f"{name!r} is left out") for note in about.notes)
    } == missing


HAND = [*source_log({"vf0": (1, 2, 3)}).lines, *destination_log({"vf0": (1, 2)}).lines]
LINES = st.lists(st.sampled_from([line.partition(" ")[2] for line in HAND]), max_size=60)


@settings(max_examples=80)
@given(LINES, st.none() | LINES, st.booleans())
def test_any_lines_are_an_error_at_worst(source: list[str], destination: list[str] | None, every: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hand = source_log({"vf0": (1, 2, 3)}).lines + source_log({"vf0": (2, 2, 3)}).lines
        whole = [line.partition(" ")[2] for line in hand]
        files = [Path(folder) / "src.log", Path(folder) / "dst.log"]
        for file, events in zip(files, (whole + source, destination or []), strict=True):
            text = "".join(f"1@{number}.000000:{event}\n" for number, event in enumerate(events))
            file.write_text(text, encoding="utf-8")
        try:
            imported = import_samples([(files[0], None if destination is None else files[1])], all_migrations=every)
        except LogImportError as error:
            assert str(error).startswith(str(folder))  # noqa: PT017 - anything else is a failure
        else:
            assert imported.scenario.plan().bounds.serial_s >= 0
            assert [spec.id for spec in imported.scenario.devices] == ["vf0"]
