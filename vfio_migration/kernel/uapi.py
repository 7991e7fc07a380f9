"""
The kernel's requests and layouts, each with where the header says so (`include/uapi/linux/vfio.h`, `iommufd.h`).

Numbers are `_IO(';', 100 + n)`, which encodes neither size nor direction; all layouts are native.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Self


def _io(number: int) -> int:
    return ord(";") << 8 | (100 + number)


class Request(IntEnum):
    """What a descriptor is asked with `ioctl`; of a container, a group, a device, or a session's descriptor."""

    GET_API_VERSION = _io(0)  # container: VFIO_GET_API_VERSION
    SET_IOMMU = _io(2)  # container: VFIO_SET_IOMMU
    GROUP_GET_STATUS = _io(3)  # group: struct vfio_group_status
    GROUP_SET_CONTAINER = _io(4)  # group: the container's descriptor
    GROUP_GET_DEVICE_FD = _io(6)  # group: the device's name; gives its descriptor
    DEVICE_RESET = _io(11)  # device: VFIO_DEVICE_RESET
    DEVICE_FEATURE = _io(17)  # device: struct vfio_device_feature
    DEVICE_BIND_IOMMUFD = _io(18)  # character device: struct vfio_device_bind_iommufd
    MIG_GET_PRECOPY_INFO = _io(21)  # session: struct vfio_precopy_info


API_VERSION = 0  # VFIO_API_VERSION
TYPE1_IOMMU = 1  # VFIO_TYPE1_IOMMU
NOIOMMU_IOMMU = 8  # VFIO_NOIOMMU_IOMMU
GROUP_VIABLE = 1  # VFIO_GROUP_FLAGS_VIABLE
NO_SESSION = -1  # data_fd where none comes with a state
PRECOPY_REINIT = 1  # VFIO_PRECOPY_INFO_REINIT: initial bytes came anew


class Feature(IntEnum):
    """Features of a device that migration needs (`VFIO_DEVICE_FEATURE_*`)."""

    MIGRATION = 1  # struct vfio_device_feature_migration: flags
    MIG_DEVICE_STATE = 2  # struct vfio_device_feature_mig_state: state, data_fd
    MIG_DATA_SIZE = 9  # struct vfio_device_feature_mig_data_size: stop_copy_length
    MIG_PRECOPY_INFO_V2 = 12  # no data; from then on precopy_info's flags mean something


class How(IntFlag):
    """What to do with a feature (`VFIO_DEVICE_FEATURE_GET`, `_SET`, `_PROBE`)."""

    GET = 1 << 16
    SET = 1 << 17
    PROBE = 1 << 18


_FEATURE = struct.Struct("=II")  # argsz, flags
_U64 = struct.Struct("=Q")
_STATE = struct.Struct("=Ii")  # device_state, data_fd
_GROUP_STATUS = struct.Struct("=II")  # argsz, flags
_BIND = struct.Struct("=IIiI")  # argsz, flags, iommufd, out_devid
_PRECOPY = struct.Struct("=IIQQ")  # argsz, flags, initial_bytes, dirty_bytes


def feature_argument(feature: Feature, how: How, data: bytes = b"") -> bytearray:
    """Give the argument of DEVICE_FEATURE: argsz covers the data."""
    return bytearray(_FEATURE.pack(_FEATURE.size + len(data), feature | how) + data)


def flags_argument() -> bytearray:
    """Give the argument that asks for the migration flags."""
    return feature_argument(Feature.MIGRATION, How.GET, bytes(_U64.size))


def size_argument() -> bytearray:
    """Give the argument that asks how many bytes would have to be read if the device were stopped now."""
    return feature_argument(Feature.MIG_DATA_SIZE, How.GET, bytes(_U64.size))


def number_in(argument: bytearray) -> int:
    """Give the 64 bits behind a feature's head."""
    (number,) = _U64.unpack_from(argument, _FEATURE.size)
    return int(number)


def state_argument(state: int | None = None) -> bytearray:
    """Give the argument that asks for the device's state, or sets it."""
    if state is None:
        return feature_argument(Feature.MIG_DEVICE_STATE, How.GET, bytes(_STATE.size))
    return feature_argument(Feature.MIG_DEVICE_STATE, How.SET, _STATE.pack(state, NO_SESSION))


def state_in(argument: bytearray) -> tuple[int, int]:
    """Give state and session's descriptor of an answer."""
    state, descriptor = _STATE.unpack_from(argument, _FEATURE.size)
    return state, descriptor


def group_status_argument() -> bytearray:
    """Give the argument of GROUP_GET_STATUS."""
    return bytearray(_GROUP_STATUS.pack(_GROUP_STATUS.size, 0))


def group_flags_in(argument: bytearray) -> int:
    """Give a group's flags."""
    return int(_GROUP_STATUS.unpack(argument)[1])


def container_argument(descriptor: int) -> bytearray:
    """Give the argument of GROUP_SET_CONTAINER."""
    return bytearray(struct.pack("=i", descriptor))


def name_argument(name: str) -> bytearray:
    """
    Give the argument of GROUP_GET_DEVICE_FD.

    It has to be mutable: of immutable bytes Python's `ioctl` gives a copy back, and not the descriptor.
    """
    return bytearray(name.encode() + b"\0")


def bind_argument(iommufd: int) -> bytearray:
    """Give the argument of DEVICE_BIND_IOMMUFD."""
    return bytearray(_BIND.pack(_BIND.size, 0, iommufd, 0))


@dataclass(frozen=True)
class PrecopyInfo:
    """What pre-copy has still to give (`struct vfio_precopy_info`), in bytes."""

    flags: int
    initial_bytes: int
    dirty_bytes: int

    @staticmethod
    def argument() -> bytearray:
        """Give the argument that asks for it."""
        return bytearray(_PRECOPY.pack(_PRECOPY.size, 0, 0, 0))

    @classmethod
    def read(cls, argument: bytearray) -> Self:
        """Read the answer."""
        return cls(*_PRECOPY.unpack(argument)[1:])
