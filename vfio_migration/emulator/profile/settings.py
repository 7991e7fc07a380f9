"""Where a device of each bus type is tried: a machine and what must stand above the device."""

from dataclasses import dataclass

ABOVE = "above"
_PORT = ("-device", f"pcie-root-port,id={ABOVE},chassis=91,slot=91,addr=1e.0")
_XHCI = ("-device", f"nec-usb-xhci,id={ABOVE},addr=1e.0")


@dataclass(frozen=True)
class Setting:
    """A machine, options that put a bus there, and the bus's name; no name: QEMU finds it or needs none."""

    name: str
    machine: str
    options: tuple[str, ...] = ()
    bus: str = ""


# A PCI device differs with the bus that it sits on: whether it speaks PCI Express, and what for.
INTEGRATED = Setting("integrated", "q35", (), "pcie.0")
PORT = Setting("port", "q35", _PORT, ABOVE)
CONVENTIONAL = Setting("conventional", "pc", (), "pci.0")
_SWITCH = Setting("switch", "q35", (*_PORT, "-device", f"x3130-upstream,id=up,bus={ABOVE}"), "up")
_CXL_HOST = Setting("cxl-host", "q35,cxl=on", ("-device", f"pxb-cxl,id={ABOVE},bus=pcie.0,bus_nr=12,addr=1e.0"), ABOVE)
_CXL_PORT = Setting(
    "cxl-port", _CXL_HOST.machine, (*_CXL_HOST.options, "-device", f"cxl-rp,id=port,bus={ABOVE},chassis=91"), "port"
)
_CXL_SWITCH = Setting(
    "cxl-switch", _CXL_HOST.machine, (*_CXL_PORT.options, "-device", "cxl-upstream,id=up,bus=port"), "up"
)
_CXL = Setting("cxl", "q35,cxl=on", (), "pcie.0")
_HOTPLUG_MEMORY = Setting("memory", "q35", ("-m", "64M,slots=2,maxmem=1G"), "pcie.0")
EVERY_PCI = (INTEGRATED, PORT, CONVENTIONAL)
RARE_PCI = (_SWITCH, _HOTPLUG_MEMORY, _CXL, _CXL_HOST, _CXL_PORT, _CXL_SWITCH)  # tried where none of the others will do

SETTINGS: dict[str, tuple[Setting, ...]] = {
    "usb-bus": (
        Setting("xhci", "q35", _XHCI, f"{ABOVE}.0"),
        Setting("uhci", "q35", ("-device", f"piix3-usb-uhci,id={ABOVE},addr=1e.0"), f"{ABOVE}.0"),
    ),
    "SCSI": (Setting("virtio-scsi", "q35", ("-device", f"virtio-scsi-pci,id={ABOVE},addr=1e.0"), f"{ABOVE}.0"),),
    "IDE": (Setting("ahci", "q35", (), "ide.0"), Setting("ide", "pc", (), "ide.0")),
    "ISA": (Setting("q35", "q35", (), "isa.0"), Setting("pc", "pc", (), "isa.0")),
    "HDA": (Setting("hda", "q35", ("-device", f"intel-hda,id={ABOVE},addr=1e.0"), f"{ABOVE}.0"),),
    "virtio-serial-bus": (
        Setting("serial", "q35", ("-device", f"virtio-serial-pci,id={ABOVE},addr=1e.0"), f"{ABOVE}.0"),
    ),
    "ccid-bus": (Setting("ccid", "q35", (*_XHCI, "-device", f"usb-ccid,id=ccid,bus={ABOVE}.0"), "ccid.0"),),
    "sd-bus": (Setting("sdhci", "q35", ("-device", f"sdhci-pci,id={ABOVE},addr=1e.0"), "sd-bus"),),
    "i2c-bus": (Setting("smbus", "q35", (), "i2c"),),
    "nvme-bus": (Setting("nvme", "q35", ("-device", f"nvme,id={ABOVE},serial=1,addr=1e.0"), ABOVE),),
    "ufs-bus": (Setting("ufs", "q35", ("-device", f"ufs,id={ABOVE},addr=1e.0"), "ufs-bus.0"),),
    "floppy-bus": (Setting("floppy", "q35", ("-device", f"isa-fdc,id={ABOVE}"), ""),),
    "virtio-bus": (Setting("mmio", "microvm", (), ""),),
    "IndustryPack": (Setting("tpci200", "q35", ("-device", f"tpci200,id={ABOVE},addr=1e.0"), ""),),
    "vmbus": (Setting("vmbus", "q35", ("-device", "vmbus-bridge"), ""),),
    "": (
        Setting("q35", "q35"),
        Setting("memory", "q35", ("-m", "64M,slots=2,maxmem=1G"), ""),
        Setting("cpus", "q35", ("-smp", "1,maxcpus=2,sockets=2,cores=1"), ""),
        Setting("pc", "pc"),
    ),
}


def settings_of(bus_type: str) -> tuple[Setting, ...]:
    """Give the settings in which a device that wants this type of bus is tried, in order."""
    if bus_type in ("PCI", "PCIE", "CXL"):
        return (*EVERY_PCI, *RARE_PCI)
    return SETTINGS.get(bus_type, ())
