"""What a machine's memory changes on its board."""

_Q35_SPLIT, _Q35_FROM = 0x80000000, 0xB0000000
_PC_SPLIT, _PC_FROM = 0xC0000000, 0xE0000000
_HOSTS = {"q35-pcihost": (_Q35_FROM, _Q35_SPLIT), "i440FX-pcihost": (_PC_FROM, _PC_SPLIT)}


def machine_values(kind: str, memory: int) -> dict[str, int]:
    """
    Give the properties of a device that follow from the bytes of memory: how much lies below and above 4 GiB.

    QEMU's `pc_q35_init` and `pc_init1`.
    """
    if kind not in _HOSTS:
        return {}
    most, split = _HOSTS[kind]
    below = memory if memory < most else split
    return {"below-4g-mem-size": below, "above-4g-mem-size": memory - below}
