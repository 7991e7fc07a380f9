"""The commands."""

from vfio_migration.cli.main import app

__all__ = ["app"]
