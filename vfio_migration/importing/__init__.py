"""From the logs of a real QEMU to a scenario."""

from vfio_migration.errors import LogImportError
from vfio_migration.importing.logs import ImportedScenario, import_logs
from vfio_migration.importing.samples import import_samples

__all__ = [
    "ImportedScenario",
    "LogImportError",
    "import_logs",
    "import_samples",
]
