"""What `check_backend` accepts, and what it says of devices that are broken."""

import itertools
import sys
from collections.abc import Callable

import pytest
from suite import ROOT

from vfio_migration import ALL_FLAGS, DeviceBackend, DeviceState, MigrationFlags, MockDevice
from vfio_migration.testing import BackendCheckError, check_backend, switchover_arcs
from vmstate import Clock, VirtualClock

STOP_COPY, P2P, PRE_COPY = MigrationFlags.STOP_COPY, MigrationFlags.P2P, MigrationFlags.PRE_COPY


@pytest.mark.parametrize("flags", [STOP_COPY, STOP_COPY | P2P, STOP_COPY | PRE_COPY, ALL_FLAGS])
@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_the_mock_passes(flags: MigrationFlags, size: int) -> None:
    seeds = itertools.count()
    check_backend(
        lambda: MockDevice(flags=flags, state_size=size, seed=next(seeds), latency=0.5, rate=1e6), clock=VirtualClock()
    )


@pytest.mark.slow
def test_the_example_of_a_device_in_another_process_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")
    made = itertools.count(1)
    socket_device = __import__("socket_device")
    check_backend(lambda: socket_device.SocketDevice(bytes([next(made)]) * 1000))
    sys.modules.pop("socket_device")


class Forgetful(MockDevice):
    """Does not notice that it was bound."""

    def bind(self, clock: Clock) -> None:
        """Accept anybody."""


class Generous(MockDevice):
    """Gives more than is asked for."""

    def read(self, size: int) -> bytes:
        """Give too much."""
        return super().read(size + 1)


class Hasty(MockDevice):
    """Says that it has gone somewhere before it has."""

    def set_arc(self, target: DeviceState) -> None:
        """Do nothing in one case."""
        if target is not DeviceState.STOP_COPY:
            super().set_arc(target)


class Endless(MockDevice):
    """Never says that there is no more."""

    def read(self, size: int) -> bytes:
        """Go on."""
        return super().read(size) or b"x"


class Lossy(MockDevice):
    """Loads nothing of what it is given."""

    def write(self, data: bytes) -> None:
        """Forget it."""

    def set_arc(self, target: DeviceState) -> None:
        """Accept that nothing was loaded."""
        if self.state is DeviceState.RESUMING and target is DeviceState.STOP:
            self.reset()
            for each in (DeviceState.RUNNING_P2P, DeviceState.STOP):
                super().set_arc(each)
        else:
            super().set_arc(target)


class Stubborn(MockDevice):
    """Does not come back from a reset in one state."""

    def reset(self) -> None:
        """Do nothing in one case."""
        if self.state is not DeviceState.STOP:
            super().reset()


class Surprising(MockDevice):
    """Fails with an error that is none of a device."""

    def set_arc(self, target: DeviceState) -> None:
        """Raise."""
        raise RuntimeError("out of cheese")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (Forgetful, "bind was accepted a second time"),
        (Generous, r"read\(7\) in STOP_COPY gave 8 bytes, more than was asked for"),
        (Hasty, "after set_arc, .* -> STOP_COPY, the device is in .*: set_arc returns when it is there"),
        (Endless, 'and never b"" for the end'),
        (Lossy, "was loaded with .* bytes and saved again gave .* bytes, and not the same"),
        (Stubborn, "after a reset in STOP the device is in STOP, expected RUNNING"),
        (Surprising, r"set_arc, RUNNING -> .*: raised RuntimeError\('out of cheese'\), which is no OSError"),
    ],
)
def test_a_broken_device_is_named_for_what_is_wrong(
    broken: type[MockDevice], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["vfio_migration.testing.check_backend"], "_MOST_READS", 1000)
    seeds = itertools.count()
    make: Callable[[], DeviceBackend] = lambda: broken(seed=next(seeds))  # noqa: E731
    with pytest.raises(BackendCheckError, match=why):
        check_backend(make)


def test_the_arcs_of_a_switchover_are_in_their_order() -> None:
    assert switchover_arcs() == (
        "PRE_COPY -> PRE_COPY_P2P",
        "PRE_COPY_P2P -> STOP_COPY",
        "RESUMING -> STOP",
        "STOP -> RUNNING_P2P",
        "RUNNING_P2P -> RUNNING",
    )
    assert switchover_arcs(STOP_COPY) == ("RUNNING -> STOP", "STOP -> STOP_COPY", "RESUMING -> STOP", "STOP -> RUNNING")
