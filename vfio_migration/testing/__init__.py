"""
For tests, with pytest, unittest or anything else: machines to test with, assertions, faults and invariants.

- `MachineRig` and `PairRig`: a machine, or a source and a destination, with mock devices and a recorder.
- `assert_order`, `assert_overlap`, `assert_disjoint`, `assert_switchover_under`: what was recorded, explained with a
  small timeline where it does not hold.
- Faults of devices are arranged at the device itself (`MockDevice.fail`, `.stall`, `.fail_reset`, `.fail_read`,
  `.fail_write`); `raising_handler`, `ScarceThreads`, `stream_cut_at` and `destination_gone_at` are faults of all else.
- `check_backend`: whether a device of your own does what the migration will ask of it; `SWITCHOVER_ARCS`: the arcs that
  a test may be parametrised over.
- `Invariants`: what holds after every migration.
- `QmpPair` and `QmpClient`: the machines of a pair behind QMP sockets, and a client for these.

The pytest plugin (`vm_clock`, `vm_recorder`, `vm_machine`, `vm_pair`, `qmp_pair`, `vfio_device`) hands out the same.
"""

from vfio_migration.testing.assertions import assert_disjoint, assert_order, assert_overlap, assert_switchover_under
from vfio_migration.testing.check_backend import BackendCheckError, check_backend
from vfio_migration.testing.invariants import (
    Invariants,
    InvariantViolationError,
    count_descriptors,
    devices_of,
    our_threads,
    state_hash,
)
from vfio_migration.testing.qmp_client import QmpClient, QmpClientError
from vfio_migration.testing.qmp_pair import QmpPair, QmpSide
from vfio_migration.testing.rig import MachineRig, PairRig
from vfio_migration.testing.sketch import sketch
from vfio_migration.testing.surroundings import ScarceThreads, destination_gone_at, raising_handler, stream_cut_at
from vfio_migration.testing.switchover_arcs import SWITCHOVER_ARCS, switchover_arcs

__all__ = [
    "SWITCHOVER_ARCS",
    "BackendCheckError",
    "InvariantViolationError",
    "Invariants",
    "MachineRig",
    "PairRig",
    "QmpClient",
    "QmpClientError",
    "QmpPair",
    "QmpSide",
    "ScarceThreads",
    "assert_disjoint",
    "assert_order",
    "assert_overlap",
    "assert_switchover_under",
    "check_backend",
    "count_descriptors",
    "destination_gone_at",
    "devices_of",
    "our_threads",
    "raising_handler",
    "sketch",
    "state_hash",
    "stream_cut_at",
    "switchover_arcs",
]
