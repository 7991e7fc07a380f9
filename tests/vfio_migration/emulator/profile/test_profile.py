"""The profile that comes with the package, and files that are none."""

import json
import lzma
from pathlib import Path

import pytest

from vfio_migration.emulator.errors import ProfileError
from vfio_migration.emulator.profile import Profile

DATA = Path(__file__).parents[3] / "data"


def test_the_bundled_one_is_read_once() -> None:
    assert Profile.bundled() is Profile.bundled()
    assert Profile.bundled().version["qemu"] == {"micro": 3, "minor": 1, "major": 11}


def test_types_are_listed_as_the_real_one_lists_them() -> None:
    replies = {}
    for line in (DATA / "qmp" / "qom.jsonl").read_text().splitlines():
        message = json.loads(line)
        if "C" in message:
            replies[message["C"].get("id")] = message["C"]
        elif "id" in message.get("S", {}):
            asked = replies[message["S"]["id"]]
            if asked["execute"] in ("qom-list-types", "device-list-properties", "qom-list-properties"):
                expected = {key: value for key, value in message["S"].items() if key != "id"}
                assert Profile.bundled().answer(asked["execute"], asked["arguments"]) == expected


def test_abstract_types_are_listed_when_asked_for() -> None:
    profile = Profile.bundled()
    concrete = {each["name"] for each in profile.list_types("virtio-device")}
    every = {each["name"]: each for each in profile.list_types("virtio-device", abstract=True)}
    assert concrete < set(every)
    assert every["virtio-device"]["abstract"] is True


def test_the_help_of_the_monitor() -> None:
    reply = Profile.bundled().answer("human-monitor-command", {"command-line": "help migrate"})
    assert reply is not None
    assert reply["return"].startswith("migrate [-d] [-r] uri -- migrate to URI")


def test_nothing_is_made_up() -> None:
    assert Profile.bundled().answer("query-name") is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{}", "not compressed with xz"),
        (lzma.compress(b"no"), "is no JSON"),
        (lzma.compress(b"[]"), "of format 'list', expected 1"),
        (lzma.compress(b'{"format": 0}'), "of format 0, expected 1"),
        (lzma.compress(b'{"format": 1, "schema": []}'), "without replies, types, properties, boards, devices"),
    ],
)
def test_a_file_that_is_no_profile(data: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "profile.json.xz"
    file.write_bytes(data)
    with pytest.raises(ProfileError, match=words):
        Profile.load(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"cannot read the profile .*: No such file"):
        Profile.load(tmp_path / "nothing")
