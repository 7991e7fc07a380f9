"""Which accelerator a command line comes to, on hosts with and without KVM."""

import os

import pytest

from vfio_migration.emulator.command_line.configuration import read_command_line
from vfio_migration.emulator.errors import QmpError

LIBVIRTS = ("-machine", "none,accel=kvm:mshv:tcg")  # what libvirt 12.8 asks an emulator with


@pytest.mark.parametrize(("usable", "accelerator"), [(True, "kvm"), (False, "tcg")])
def test_of_several_the_first_that_works_is_taken(
    monkeypatch: pytest.MonkeyPatch, usable: bool, accelerator: str
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: usable)
    assert read_command_line(LIBVIRTS).accelerator == accelerator
    assert read_command_line(["-accel", "tcg"]).accelerator == "tcg"


def test_one_that_is_named_alone_is_taken_whether_it_works_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert read_command_line(["-accel", "kvm"]).accelerator == "kvm"


def test_one_that_no_qemu_has_is_refused() -> None:
    with pytest.raises(QmpError, match="invalid accelerator hax"):
        read_command_line(["-accel", "hax"])
