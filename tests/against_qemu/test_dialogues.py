"""What clients and real QEMUs 11.1.3 said to one another (tests/data/qmp), with the emulator in QEMU's place."""

from pathlib import Path

import pytest
import suite
from suite.dialogues import Player, host_devices

DIALOGUES = suite.DATA / "qmp"
HOST = suite.DATA / "qemu-11.1.3" / "host.cmdline.txt"
# Where QEMU itself says now one thing, now another, or what no other process can say; how much of it there is.
LEFT = {
    "blocked": 1,  # whether a process that ends at once has greeted before
    "errors-arguments.pass2": 1,  # a command that finds a migration in progress a moment longer
    "migrate-file-exec": 2,  # whether a client has connected by the time a migration has come in
    "migrate-without-events": 1,  # a migration that is found in its set-up
    "pause-before-switchover": 1,
    "pause-before-switchover.pass2": 1,  # a command that finds the migration completed, or about to be
    "query-pci-and-qtree": 1,  # a migration that is found in its set-up, before it fails
}
TURNS = 3
QUICK = ("greeting-oob",)
NAMES = sorted(
    path.stem for path in DIALOGUES.glob("*.jsonl") if "json" not in path.stem and path.stem != "greeting-raw"
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES]
)
def test_the_emulator_says_what_qemu_said(name: str, tmp_path: Path) -> None:
    """A dialogue's answers depend on its times too: what counts as different is what is different each time."""
    allowed = LEFT.get(name, 0)
    for turn in range(TURNS):
        folder = tmp_path / str(turn)
        folder.mkdir()
        agreed, of_all, different = Player(DIALOGUES / f"{name}.jsonl", folder, host_devices(HOST)).play()
        assert of_all > 10
        if of_all - agreed <= allowed:
            return
    pytest.fail(f"{of_all - agreed} differ in {TURNS} turns, the last time:\n" + "\n".join(different))
