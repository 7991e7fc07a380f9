"""A scenario for a whole process: what devices, handlers, memory and link are like, on the tree of a command line."""

from collections.abc import Iterator

from vfio_migration.device import MockDevice
from vfio_migration.emulator.board import Board, BoardDevice
from vfio_migration.emulator.errors import QmpError
from vfio_migration.errors import ScenarioError
from vfio_migration.live import Link, MigrationParameters
from vfio_migration.scenarios import DeviceSpec, Scenario, add_phases, scenario_for_tree
from vmstate import Bus, Device, Machine, get_logger

VARIABLE = "VFIO_SWITCHOVER_SCENARIO"
_log = get_logger("vfio_migration.emulator")


class ProcessScenario:
    """
    A scenario as one process has it; `destination`: it was started to wait for a migration, so that the faults of that
    side are its own.
    """

    def __init__(self, scenario: Scenario, board: Board, *, destination: bool) -> None:
        self.scenario = scenario
        self._destination = destination
        self._specs = {spec.id: spec for spec in scenario.devices}
        self._places = list(in_text_order(board.root))

    @property
    def link(self) -> Link | None:
        """What the migration goes over."""
        return self.scenario.surroundings.link

    def spec_of(self, device: BoardDevice) -> DeviceSpec | None:
        """Give what it says of a device of the tree, by its id or, of one without, by its place."""
        known = self._specs.get(device.id)
        if known is not None or device.id:
            return known
        at = next((place for place, each in enumerate(self._places) if each is device.device), None)
        return next((spec for spec in self._specs.values() if spec.place == at and at is not None), None)

    def prepare(self, machine: Machine) -> None:
        """Add its ordinary handlers and phases to a machine."""
        for handler in self.scenario.handlers:
            self.scenario.add_handler(machine, handler, self._places)
        depths = [each.depth for each in self.scenario.devices] + [each.depth for each in self.scenario.handlers]
        deepest = max(depths, default=1)
        add_phases(machine, self.scenario.phases, deepest, destination=self._destination)

    def arrange_faults(self, mocks: dict[str, MockDevice]) -> None:
        """Arrange the faults of this side."""
        side = "destination" if self._destination else "source"
        for fault in self.scenario.faults:
            if fault.entry.side == side and fault.device in mocks:
                fault.arrange(mocks[fault.device])


def load_process_scenario(name_or_path: str, board: Board, *, destination: bool) -> ProcessScenario:
    """
    Read the scenario for a board's tree.

    Raises:
        QmpError: it cannot be used; the message says what of it.

    """
    try:
        scenario = scenario_for_tree(name_or_path, board.qtree_text().encode())
    except ScenarioError as error:
        raise QmpError(f"{VARIABLE}: {error}") from error
    if scenario.surroundings.parameters != MigrationParameters():
        _log.warning("[parameters] has no effect here: a client sets them over the monitor", scenario=scenario.name)
    return ProcessScenario(scenario, board, destination=destination)


def in_text_order(bus: Bus) -> Iterator[Device]:
    """Walk a tree as `info qtree` prints it: what was plugged last comes first."""
    for device in reversed(bus.devices):
        yield device
        for below in device.buses:
            yield from in_text_order(below)
