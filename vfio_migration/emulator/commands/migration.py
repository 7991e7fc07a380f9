"""Commands about migrations (QEMU's `qapi/migration.json`)."""

from typing import Any

from vfio_migration.emulator.commands.command import Call, CommandTable
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.migrating.parameters import shown_parameters
from vfio_migration.emulator.migrating.query import query_migrate
from vfio_migration.live import MigrationStatus

table = CommandTable()


@table.command("migrate", locked=False)
def migrate(call: Call) -> None:
    """Begin a migration."""
    call.emulated.migrations.migrate(call.arguments)


@table.command("migrate-incoming", locked=False)
def migrate_incoming(call: Call) -> None:
    """Wait for a migration."""
    call.emulated.migrations.await_incoming(call.arguments)


@table.command("migrate_cancel", locked=False)
def migrate_cancel(call: Call) -> None:
    """Cancel what is on its way out; waits for its turn by itself."""
    call.emulated.migrations.cancel()


@table.command("migrate-continue")
def migrate_continue(call: Call) -> None:
    """Let a migration go on that waits before the switchover."""
    call.emulated.migrations.continue_(call.arguments["state"])


@table.command("migrate-set-capabilities")
def set_capabilities(call: Call) -> None:
    """Switch capabilities."""
    changes = {each["capability"]: each["state"] for each in call.arguments["capabilities"]}
    call.emulated.migrations.set_capabilities(changes)


@table.command("query-migrate-capabilities")
def query_capabilities(call: Call) -> Any:
    """Say which capabilities are on."""
    return [{"capability": name, "state": state} for name, state in call.emulated.migrations.capabilities.items()]


@table.command("migrate-set-parameters")
def set_parameters(call: Call) -> None:
    """Change parameters."""
    call.emulated.migrations.set_parameters(call.arguments)


@table.command("query-migrate-parameters")
def query_parameters(call: Call) -> Any:
    """Say what the parameters are."""
    return shown_parameters(call.emulated.migrations.parameters)


@table.command("query-migrate")
def query(call: Call) -> Any:
    """Say how the migration stands."""
    return query_migrate(call.emulated.migrations)


@table.command("migrate-start-postcopy")
def start_postcopy(call: Call) -> None:
    """Refuse: no device here, as no VFIO device, can go on without its state."""
    migrations = call.emulated.migrations
    if not migrations.capabilities["postcopy-ram"]:
        raise QmpError("Enable postcopy with migrate_set_capability before the start of migration")
    if migrations.status is MigrationStatus.NONE:
        raise QmpError("Postcopy must be started after migration has been started")
    raise QmpError("Postcopy is not supported: VFIO migration is not supported in postcopy migration")


@table.command("migrate-pause", locked=False)
def pause(call: Call) -> None:
    """Refuse: only postcopy is paused."""
    raise QmpError("migrate-pause is currently only supported during postcopy-active or postcopy-recover state")


@table.command("migrate-recover", locked=False)
def recover(call: Call) -> None:
    """Refuse: only postcopy is recovered."""
    raise QmpError("Migrate recover can only be run when postcopy is paused.")


@table.command("announce-self")
def announce_self(call: Call) -> None:
    """Tell the network where the guest is now; there is neither."""


@table.command("getfd", locked=False)
def getfd(call: Call) -> None:
    """Keep the descriptor that came with the command."""
    descriptor = None if call.session is None else call.session.take_descriptor()
    if descriptor is None:
        raise QmpError("No file descriptor supplied via SCM_RIGHTS")
    call.emulated.descriptors.keep(call.arguments["fdname"], descriptor)


@table.command("closefd", locked=False)
def closefd(call: Call) -> None:
    """Close one."""
    call.emulated.descriptors.close(call.arguments["fdname"])


@table.command("query-yank", locked=False)
def query_yank(call: Call) -> Any:
    """Say what can be cut."""
    emulated = call.emulated
    instances: list[dict[str, Any]] = [{"type": "chardev", "id": each.label} for each in emulated.speakers]
    if emulated.migrations.running or emulated.migrations.waiting:
        instances.append({"type": "migration"})
    return instances


@table.command("yank", locked=False)
def yank(call: Call) -> None:
    """Cut connections: all that are named, or none."""
    emulated = call.emulated
    known = query_yank(call)
    for instance in call.arguments["instances"]:
        if instance not in known:
            raise QmpError("Instance not found", "DeviceNotFound")
    for instance in call.arguments["instances"]:
        if instance["type"] == "migration":
            emulated.migrations.disconnect()
        else:
            for speaker in emulated.speakers:
                if speaker.label == instance["id"]:
                    speaker.disconnect()
