"""From the logs of a real QEMU to a scenario."""

from vfio_migration.errors import LogImportError
from vfio_migration.importing.logs import ImportedScenario, import_logs

__all__ = [
    "ImportedScenario",
    "LogImportError",
    "import_logs",
]
