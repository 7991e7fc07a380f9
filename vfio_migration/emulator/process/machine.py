"""Making the machine that a command line describes: board, devices, memory, migrations."""

import threading
from collections.abc import Callable, Sequence

from vfio_migration.emulator.board import Board, Connectable
from vfio_migration.emulator.command_line.configuration import BadMachineError, BadOptionError, Configuration
from vfio_migration.emulator.devices.plugged import PluggedDevices
from vfio_migration.emulator.devices.process_scenario import ProcessScenario, load_process_scenario
from vfio_migration.emulator.emulated import Emulated, Identity
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.migrating.descriptors import Descriptors
from vfio_migration.emulator.migrating.memory import Memory, without_guest
from vfio_migration.emulator.migrating.migrations import Migrations
from vfio_migration.emulator.migrating.same_machine import MachineShape, MachineState
from vfio_migration.emulator.profile import Profile
from vfio_migration.live import Link, Ram
from vfio_migration.registered import use_strategy
from vmstate import Clock, Machine, RunState, TraceSink

_LINK = Link(10e9 / 8)  # where no scenario says anything else: 10 Gbit/s
_FIRST_SECTION = 1  # the memory's, unless network backends of the user's have theirs before
_SUFFIX = "-machine"
_MOST_THREADS = 64  # that stand for CPUs


def make_emulated(
    configuration: Configuration,
    profile: Profile,
    *,
    clock: Clock,
    trace: TraceSink | None,
    scenario: str | None,
    on_failed_incoming: Callable[[Sequence[str]], object],
) -> Emulated:
    """
    Make the machine, stopped.

    Raises:
        QmpError: a device cannot be, or the scenario cannot be used; the text begins with what said so.

    """
    run_state = RunState.PRELAUNCH if configuration.incoming is None else RunState.INMIGRATE
    machine = Machine(configuration.name or "vm", run_state=run_state, clock=clock, trace=trace)
    _check_machine(configuration, profile)
    board = Board(
        profile,
        configuration.machine,
        memory=configuration.memory,
        cpus=configuration.topology.cpus,
        defaults=configuration.defaults,
        options=configuration.machine_options,
    )
    backends = configuration.backends
    board.connectable = Connectable(backends.objects, backends.blockdevs, backends.netdevs, backends.chardevs)
    devices = PluggedDevices(machine, board, only_migratable=configuration.only_migratable)
    said = {}
    for device in configuration.devices:
        try:
            said[id(devices.plug(device.options, typed=device.typed))] = device.said
        except QmpError as error:
            raise BadOptionError(f"{device.said}: {error}") from error
    described = None
    if scenario is None:
        devices.attach(said=said)
    else:
        described = load_process_scenario(scenario, board, destination=configuration.incoming is not None)
        described.prepare(machine)
        use_strategy(machine, described.scenario.strategy)
        devices.attach(described.spec_of, described.scenario.watchdog, said=said)
        described.arrange_faults(devices.mocks)
    descriptors = Descriptors()
    migrations = Migrations(
        machine,
        memory=_add_memory(machine, configuration, described),
        link=described.link if described is not None and described.link is not None else _LINK,
        descriptors=descriptors,
        blockers=lambda: devices.blockers,
        expected=configuration.incoming == "defer",
        ram_section=_FIRST_SECTION + sum(each.get("type") == "user" for each in backends.netdevs.values()),
        on_failed_incoming=on_failed_incoming,
    )
    machine.register(MachineState(_shape(configuration, board), migrations.settings, lambda: devices.vfio_sections))
    emulated = Emulated(
        machine,
        board,
        profile,
        devices,
        migrations,
        descriptors=descriptors,
        identity=_identity(configuration),
        backends=backends,
    )
    emulated.actions.update(configuration.actions)
    return emulated


def _check_machine(configuration: Configuration, profile: Profile) -> None:
    """See that the machine can have the CPUs and the memory that it is to have."""
    found = profile.machines.get(configuration.machine)  # of one that there is not, its board says so
    if found is not None and configuration.topology.most > found["cpu-max"]:
        raise BadMachineError(
            f"Invalid SMP CPUs {configuration.topology.most}. The max CPUs supported by machine '{found['name']}' is "
            f"{found['cpu-max']}"
        )
    model, known = configuration.cpu, profile.answer("query-cpu-definitions")
    if model is not None and known is not None and model not in {each["name"] for each in known["return"]}:
        raise BadMachineError(f"unable to find CPU model '{model}'")
    backend = configuration.machine_options.get("memory-backend")
    if backend is not None and backend not in configuration.backends.objects:
        raise BadMachineError(f"Memory backend '{backend}' not found")


def _shape(configuration: Configuration, board: Board) -> MachineShape:
    return MachineShape(
        machine_type=board.machine_type.removesuffix(_SUFFIX),
        uuid=configuration.uuid or Identity().uuid,
        ram_block=configuration.machine_options.get("memory-backend") or "pc.ram",
        ram_size=configuration.memory,
    )


def _add_memory(machine: Machine, configuration: Configuration, described: ProcessScenario | None) -> Memory:
    ram = described.scenario.surroundings.ram if described is not None else None
    if ram is not None:
        Ram(machine, ram.size, dirty_rate=ram.dirty_rate)
        return Memory(max(configuration.memory, ram.size), ram.size)
    memory = without_guest(configuration.memory)
    Ram(machine, memory.stream_size)
    return memory


def _identity(configuration: Configuration) -> Identity:
    threads = []
    for number in range(min(configuration.topology.cpus, _MOST_THREADS)):
        thread = threading.Thread(target=_idle.wait, name=f"CPU {number}/{configuration.accelerator}", daemon=True)
        thread.start()
        threads.append(thread.native_id or 0)
    cpu = configuration.cpu or "qemu64"
    default = Identity()
    return Identity(
        name=configuration.name,
        uuid=configuration.uuid or default.uuid,
        cpus=configuration.topology.cpus,
        cores=configuration.topology.cores,
        threads=configuration.topology.threads,
        cpu_type=f"{cpu}-x86_64-cpu",
        accelerator=configuration.accelerator,
        memory=configuration.memory,
        memory_backend=configuration.machine_options.get("memory-backend", ""),
        thread_ids=threads if len(threads) == configuration.topology.cpus else (),
    )


_idle = threading.Event()  # never set: a CPU without a guest has nothing to do
