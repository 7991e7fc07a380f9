"""What the reader says is held against what a real QEMU 11.1.3 answered to the same bytes."""

import json
from pathlib import Path
from typing import Any

import pytest

from vfio_migration.emulator.wire import JsonError, JsonReader

DATA = Path(__file__).parents[3] / "data" / "qmp"
NO_OBJECT = "QMP input must be a JSON object"


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()][1:]


def check(items: list[object], answers: list[dict[str, Any]]) -> None:
    """Each item must be what QEMU's answer in its place shows: this error, no object, or an object with this id."""
    assert len(items) == len(answers)
    for item, answer in zip(items, answers, strict=True):
        said = answer.get("error", {}).get("desc", "")
        if isinstance(item, JsonError):
            assert item.text == said
        elif isinstance(item, dict):
            assert "JSON" not in said
            assert item.get("id", "none") == answer.get("id", "none")
        else:
            assert said == NO_OBJECT


@pytest.mark.parametrize("name", ["errors-json.jsonl", "greeting-raw.jsonl"])
def test_a_dialogue(name: str) -> None:
    items: list[object] = []
    answers = []
    reader = JsonReader()
    for line in lines(name):
        if "C" in line:
            items += reader.feed(json.dumps(line["C"]).encode() + b"\n")
        elif "C-raw" in line:
            items += reader.feed(line["C-raw"].encode("latin-1"))
        elif "S" in line and not line["S"].keys() & {"QMP", "event"}:
            answers.append(line["S"])
    assert len(answers) > 10
    check(items, answers)


@pytest.mark.parametrize("line", lines("json-input.jsonl"), ids=lambda line: repr(line["sent"][:40]))
def test_bytes_of_every_kind(line: dict[str, Any]) -> None:
    reader = JsonReader()
    assert list(reader.feed(b'{"execute":"qmp_capabilities"}\n')) == [{"execute": "qmp_capabilities"}]
    check(list(reader.feed(line["sent"].encode("latin-1"))), line["answers"])
