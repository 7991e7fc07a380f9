"""Migration capabilities: which there are, and which go together (QEMU's `migrate_caps_check`)."""

from collections.abc import Mapping
from types import MappingProxyType

from vfio_migration.emulator.errors import QmpError

# In QEMU's order, which is that of its answers.
CAPABILITIES = (
    "xbzrle",
    "rdma-pin-all",
    "auto-converge",
    "events",
    "postcopy-ram",
    "x-colo",
    "release-ram",
    "return-path",
    "pause-before-switchover",
    "multifd",
    "dirty-bitmaps",
    "postcopy-blocktime",
    "late-block-activate",
    "x-ignore-shared",
    "validate-uuid",
    "background-snapshot",
    "zero-copy-send",
    "postcopy-preempt",
    "switchover-ack",
    "dirty-limit",
    "mapped-ram",
)
NONE_SET: Mapping[str, bool] = MappingProxyType(dict.fromkeys(CAPABILITIES, False))
# What a snapshot in the background does not go with, in the order in which QEMU looks.
_NOT_WITH_SNAPSHOT = (
    "postcopy-ram",
    "dirty-bitmaps",
    "postcopy-blocktime",
    "late-block-activate",
    "return-path",
    "multifd",
    "pause-before-switchover",
    "auto-converge",
    "release-ram",
    "rdma-pin-all",
    "xbzrle",
    "x-colo",
    "validate-uuid",
    "zero-copy-send",
)
_SNAPSHOT = "background-snapshot"
_WITHOUT_DIRTY_RING = "dirty-limit requires KVM with accelerator property 'dirty-ring-size' set"
# What one needs, and what does not go with another, each with QEMU's words; in the order in which QEMU looks.
_REQUIRED = (
    ("x-colo", "return-path", "Capability 'x-colo' requires capability 'return-path'"),
    ("zero-copy-send", "multifd", "Zero copy only available for non-compressed non-TLS multifd migration"),
    ("postcopy-preempt", "postcopy-ram", "Postcopy preempt requires postcopy-ram"),
    ("switchover-ack", "return-path", "Capability 'switchover-ack' requires capability 'return-path'"),
)
_CONFLICTS = (
    ("postcopy-ram", "x-ignore-shared", "Postcopy is not compatible with ignore-shared"),
    ("xbzrle", "multifd", "Multifd is not compatible with xbzrle"),
    ("dirty-limit", "auto-converge", "dirty-limit conflicts with auto-converge either of then available currently"),
    ("mapped-ram", "xbzrle", "Mapped-ram migration is incompatible with xbzrle"),
    ("mapped-ram", "postcopy-ram", "Mapped-ram migration is incompatible with postcopy"),
)


def check_capabilities(wanted: Mapping[str, bool]) -> None:
    """
    See that capabilities go together.

    Raises:
        QmpError: they do not.

    """
    on = {name for name, state in wanted.items() if state}
    if _SNAPSHOT in on:
        for name in _NOT_WITH_SNAPSHOT:
            if name in on:
                raise QmpError(f"Background-snapshot is not compatible with {name}")
    for name, other, words in _CONFLICTS:
        if name in on and other in on:
            raise QmpError(words)
    for name, needed, words in _REQUIRED:
        if name in on and needed not in on:
            raise QmpError(words)
    if "dirty-limit" in on:
        raise QmpError(_WITHOUT_DIRTY_RING)
