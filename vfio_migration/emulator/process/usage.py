"""What `-help` and `-version` print, and `--record-profile`."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from vfio_migration.emulator.errors import ProfileError
from vfio_migration.emulator.profile import Profile
from vfio_migration.emulator.profile.recorder import record_profile

_RECORDED_WORDS = 2


def usage(program: str) -> str:
    """Give what `-help` prints."""
    return f"""\
usage: {program} QEMU-OPTIONS...
       {program} --record-profile QEMU FILE

A QEMU without hardware: it takes the command line of a qemu-system-x86_64 and answers its monitor (QMP). Devices of
type vfio-pci, and those that a scenario names, change their states, stall and fail; nothing else is emulated.

  -machine q35|pc|none  -m SIZE  -smp N  -name NAME  -uuid UUID  -device ...  -nodefaults
  -qmp unix:PATH,server=on[,wait=off]     a monitor; also tcp:HOST:PORT, and -chardev socket with -mon
  -incoming URI|defer   -S   -only-migratable   -preconfig   -daemonize   -pidfile FILE
  -msg timestamp=on   -D FILE   -trace PATTERN          a log in QEMU's format

Environment:
  VFIO_SWITCHOVER_SCENARIO   a scenario (a TOML file, or a bundled one) for the devices of this process
  VFIO_SWITCHOVER_PROFILE    a file of --record-profile, in place of the bundled QEMU 11.1.3"""


def said_of_version() -> str:
    """Give what `-version` prints."""
    qemu = Profile.bundled().version
    numbers = qemu["qemu"]
    return (
        f"QEMU emulator version {numbers['major']}.{numbers['minor']}.{numbers['micro']} ({qemu['package']})\n"
        f"as vfio-switchover-qemu {version('vfio-switchover')} has it, without hardware"
    )


def record(program: str, words: Sequence[str]) -> int:
    """Record what an installed QEMU says of itself; gives the exit status."""
    if len(words) != _RECORDED_WORDS:
        print(f"{program}: --record-profile: expected QEMU FILE", file=sys.stderr)  # noqa: T201 - a command's answer
        return 1
    try:
        record_profile(words[0], Path(words[1]), log=lambda text: print(text, file=sys.stderr))  # noqa: T201
    except (ProfileError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0
