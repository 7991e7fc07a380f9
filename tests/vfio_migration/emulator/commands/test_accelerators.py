"""What is said of the accelerator, by both commands that ask for it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from vfio_migration.emulator.commands.command import Call
from vfio_migration.emulator.commands.queries import query_accelerators, query_kvm
from vfio_migration.emulator.emulated import Emulated, Identity
from vfio_migration.emulator.profile import Profile
from vfio_migration.testing import QmpPair


@pytest.mark.parametrize("accelerator", ["kvm", "tcg"])
def test_both_commands_name_the_same_accelerator(accelerator: str) -> None:
    emulated: Any = SimpleNamespace(profile=Profile.bundled(), identity=Identity(accelerator=accelerator))
    call = Call(cast("Emulated", emulated), None, {})
    assert query_accelerators(call) == {"enabled": accelerator, "present": ["kvm", "mshv", "qtest", "tcg"]}
    assert query_kvm(call) == {"enabled": accelerator == "kvm", "present": True}


def test_of_statistics_there_are_none(qmp_pair: QmpPair) -> None:
    qmp = qmp_pair.source.qmp
    names = ["halt_poll_success_ns", "halt_poll_fail_ns"]
    assert qmp.execute("query-stats", target="vcpu", providers=[{"provider": "kvm", "names": names}]) == []
    assert qmp.execute("query-stats", target="vm") == []
