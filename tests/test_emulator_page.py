"""What docs/emulator.md has somebody do in a shell does what it says, and what it says of refusals is so."""

import os
import re
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from suite import ROOT

from vfio_migration.testing import QmpClientError, QmpPair

PAGE = (ROOT / "docs" / "emulator.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path; whoever was started in it is ended."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
        for file in Path(name).rglob("*.pid"):
            with suppress(ProcessLookupError):
                os.kill(int(file.read_text(encoding="ascii")), SIGKILL)


@pytest.mark.slow
def test_the_page_does_in_a_shell_what_it_says(folder: Path) -> None:
    (folder / "vm.toml").write_text(blocks("toml")[0], encoding="utf-8")
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-eu"],
        input="\n".join(blocks("sh")),
        cwd=folder,
        env=os.environ | {"PATH": path, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('"status": "completed"') == 2
    assert done.stdout.count('"status": "running"') == 2
    scenario = (folder / "again.toml").read_text(encoding="utf-8")
    assert '"PRE_COPY_P2P -> STOP_COPY" = 0.08' in scenario
    assert '"RESUMING -> STOP" = 0.5' in scenario  # the destination's stall


def test_a_command_that_needs_hardware_is_said_to_be_not_supported(qmp_pair: QmpPair) -> None:
    arguments: dict[str, Any] = {"job-id": "a", "tag": "b", "vmstate": "c", "devices": []}
    with pytest.raises(QmpClientError) as caught:
        qmp_pair.source.qmp.execute("snapshot-save", **arguments)
    assert caught.value.desc in " ".join(PAGE.split()).replace("...", "snapshot-save")


def test_vfio_devices_are_paired_by_their_ids_wherever_they_are(qmp_pair: QmpPair) -> None:
    qmp_pair.source.rig.add_device("vf0", depth=2, seed=1)
    qmp_pair.destination.rig.add_device("vf0", depth=4, seed=2)
    assert qmp_pair.migrate() == "completed"
    assert qmp_pair.source.rig.state_hashes == qmp_pair.destination.rig.state_hashes
