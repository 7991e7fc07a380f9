"""What a device is given when it is tried: a backend for each property that names one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Given:
    """Options of the device itself, and options of the QEMU that make what they name."""

    options: tuple[tuple[str, str], ...] = ()
    makes: tuple[str, ...] = ()

    def __add__(self, other: "Given") -> "Given":
        return Given(self.options + other.options, self.makes + other.makes)


_DRIVE = ("-blockdev", "driver=null-co,node-name=given-drive,size=1048576,read-zeroes=on")
_MEMORY = ("-object", "memory-backend-ram,id=given-memory,size=2M,share=on")
_BY_PROPERTY: dict[str, Given] = {
    "drive": Given((("drive", "given-drive"),), _DRIVE),
    "chardev": Given((("chardev", "given-chardev"),), ("-chardev", "null,id=given-chardev")),
    "netdev": Given((("netdev", "given-netdev"),), ("-netdev", "hubport,id=given-netdev,hubid=1")),
    "memdev": Given((("memdev", "given-memory"),), _MEMORY),
    "shmem": Given((("shmem", "given-memory"),), _MEMORY),
    "audiodev": Given((("audiodev", "given-audio"),), ("-audiodev", "none,id=given-audio")),
    "cryptodev": Given((("cryptodev", "given-crypto"),), ("-object", "cryptodev-backend-builtin,id=given-crypto")),
    "rng": Given((("rng", "given-rng"),), ("-object", "rng-random,id=given-rng,filename=/dev/urandom")),
    "bmc": Given((("bmc", "given-bmc"),), ("-device", "ipmi-bmc-sim,id=given-bmc")),
    "size": Given((("size", "1M"),)),
    "serial": Given((("serial", "given-serial"),)),
    "port": Given((("port", "given-port"),)),
    "fsdev": Given(
        (("fsdev", "given-fs"), ("mount_tag", "given-tag")),
        ("-fsdev", "local,id=given-fs,path=/tmp,security_model=none"),
    ),
    "filename": Given((("filename", "given-file"),)),
    "volatile-memdev": Given((("volatile-memdev", "given-memory"),), _MEMORY),
    "bus_nr": Given((("bus_nr", "40"),)),
    "uuid": Given((("uuid", "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"),)),
    "guid": Given((("guid", "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"),)),
    "ioport": Given((("ioport", "1285"),)),
    "socket-id": Given((("socket-id", "1"), ("core-id", "0"), ("thread-id", "0"))),
    "index": Given((("index", "1"),)),
    "chassis_nr": Given((("chassis_nr", "90"),)),
    "address": Given((("address", "35"),)),
}
NOTHING = Given()


def tries(properties: list[str]) -> list[Given]:
    """Give what a device with these properties is tried with, in order: nothing, each alone, then pairs, then all."""
    singles = [_BY_PROPERTY[name] for name in properties if name in _BY_PROPERTY and _BY_PROPERTY[name].options]
    singles.sort(key=list(_BY_PROPERTY.values()).index)
    pairs = [a + b for at, a in enumerate(singles) for b in singles[at + 1 :]]
    return [NOTHING, *singles, *pairs]
