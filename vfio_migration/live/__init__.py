"""A live migration: its two sides, the stream between them, and what steers it."""

from vfio_migration.live.addresses import parse_uri
from vfio_migration.live.going_back import reachable
from vfio_migration.live.incoming import Incoming
from vfio_migration.live.info import MigrationInfo, RamInfo
from vfio_migration.live.migration import Migration, migrate
from vfio_migration.live.outgoing import Outgoing
from vfio_migration.live.parameters import Link, MigrationParameters, Phases
from vfio_migration.live.ram import Ram
from vfio_migration.live.report import IncomingReport, MigrationReport, OutgoingReport
from vfio_migration.live.status import MigrationStatus
from vfio_migration.live.unix_paths import make_way

__all__ = [
    "Incoming",
    "IncomingReport",
    "Link",
    "Migration",
    "MigrationInfo",
    "MigrationParameters",
    "MigrationReport",
    "MigrationStatus",
    "Outgoing",
    "OutgoingReport",
    "Phases",
    "Ram",
    "RamInfo",
    "make_way",
    "migrate",
    "parse_uri",
    "reachable",
]
