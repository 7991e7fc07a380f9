"""Which options a QEMU has, and which of them take an argument (`qemu-options.hx`, as of QEMU 11.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

from vfio_migration.emulator.errors import QmpError

_WITH_ARGUMENT = frozenset(
    {
        "machine", "M", "cpu", "accel", "smp", "numa", "add-fd", "set", "global", "boot", "m", "mem-path", "k",
        "audio", "audiodev", "device", "name", "uuid", "fda", "fdb", "hda", "hdb", "hdc", "hdd", "cdrom",
        "blockdev", "drive", "mtdblock", "sd", "pflash", "fsdev", "virtfs", "iscsi", "usbdevice", "display",
        "spice", "vga", "g", "vnc", "acpitable", "smbios", "netdev", "nic", "net", "chardev", "tpmdev", "bios",
        "kernel", "shim", "append", "initrd", "dtb", "compat", "fw_cfg", "serial", "parallel", "monitor", "qmp",
        "qmp-pretty", "mon", "debugcon", "pidfile", "overcommit", "gdb", "d", "D", "dfilter", "seed", "L",
        "xen-domid", "loadvm", "option-rom", "rtc", "icount", "watchdog-action", "echr", "incoming", "sandbox",
        "readconfig", "trace", "plugin", "run-with", "msg", "dump-vmstate", "object", "action",
        "semihosting-config", "tb-size", "chroot",
    }
)  # fmt: skip
_WITHOUT_ARGUMENT = frozenset(
    {
        "h", "help", "version", "mem-prealloc", "snapshot", "usb", "nographic", "full-screen", "win2k-hack",
        "no-fd-bootchk", "preconfig", "S", "s", "enable-kvm", "xen-attach", "xen-domid-restrict", "no-reboot",
        "no-shutdown", "daemonize", "only-migratable", "nodefaults", "no-user-config", "enable-sync-profile",
        "perfmap", "jitdump", "semihosting", "prom-env", "old-param", "one-insn-per-tb",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Option:
    """One option of a command line, without its dashes; the argument is empty where it takes none."""

    name: str
    argument: str = ""

    def __str__(self) -> str:
        return f"-{self.name} {self.argument}".rstrip()


def split_options(words: Sequence[str]) -> list[Option]:
    """
    Take a command line apart; one dash or two, and a word without is the image of the first disk, as with QEMU.

    Raises:
        QmpError: an option that no QEMU has, or an argument is missing.

    """
    options: list[Option] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word == "-":
            options.append(Option("hda", word))
            continue
        name = word[2:] if word.startswith("--") else word[1:]
        if name in _WITHOUT_ARGUMENT:
            options.append(Option(name))
        elif name in _WITH_ARGUMENT:
            argument = next(rest, None)
            if argument is None:
                raise QmpError(f"{word}: requires an argument")
            options.append(Option(name, argument))
        else:
            raise QmpError(f"{word}: invalid option")
    return options
