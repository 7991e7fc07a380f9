"""A pair of machines of this process that are driven by their monitors, as two QEMUs would be."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from vfio_migration.emulator import MonitorServer
from vfio_migration.live import Link
from vfio_migration.testing.qmp_client import QmpClient
from vfio_migration.testing.rig import MachineRig, PairRig


class QmpSide:
    """One machine of the pair: its rig, its server, the socket's `path`, and a client that is connected (`qmp`)."""

    def __init__(self, rig: MachineRig, server: MonitorServer, qmp: QmpClient) -> None:
        self.rig = rig
        self.machine = rig.machine
        self.server = server
        self.path = server.path
        self.qmp = qmp


class QmpPair:
    """
    A source that runs and a destination, each behind a QMP socket; devices are added to `rig`, or by `device_add`.

    `uri` is where the destination may listen, and the source migrate to. `migrate` does what a harness does: events on,
    `migrate-incoming`, `migrate`, and waits for both ends.
    """

    uri = "unix:migration"

    def __init__(self, rig: PairRig, *, link: Link | None = None) -> None:
        self.rig = rig
        with ExitStack() as stack:
            # Not the test's own folder: its path may be longer than that of a socket can be.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qmp")))
            self.source = self._side(stack, rig.source, folder / "source", link)
            self.destination = self._side(stack, rig.destination, folder / "destination", link)
            self._stack = stack.pop_all()

    def migrate(self) -> str:
        """Migrate the source into the destination over their monitors; gives the status in which it has ended."""
        source, destination = self.source.qmp, self.destination.qmp
        for each in (source, destination):
            each.execute("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        destination.execute("migrate-incoming", uri=self.uri)
        source.execute("migrate", uri=self.uri)
        return self.wait()

    def wait(self) -> str:
        """Wait for the end of the migration under way, on both sides; gives its status at the source."""
        for side in (self.source, self.destination):
            while not (set(side.qmp.statuses()[-1:]) & _OVER):
                side.qmp.next_event()
        return self.source.qmp.statuses()[-1]

    def close(self) -> None:
        """Leave both monitors, and serve no more."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _side(stack: ExitStack, rig: MachineRig, path: Path, link: Link | None) -> QmpSide:
        server = stack.enter_context(MonitorServer(rig.machine, path, link=link))
        return QmpSide(rig, server, stack.enter_context(QmpClient(str(path))))


_OVER = {"completed", "failed", "cancelled"}
