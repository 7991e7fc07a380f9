"""Commands that only ask: about this QEMU, its machine, and what it is connected to."""

import os
from collections.abc import Mapping
from typing import Any

from vfio_migration.emulator.command_line.keyvals import parse_size
from vfio_migration.emulator.commands.block_nodes import block_devices, block_nodes, block_statistics
from vfio_migration.emulator.commands.command import Call, CommandTable
from vfio_migration.emulator.emulated import Identity
from vfio_migration.emulator.errors import QmpError

table = CommandTable()
# Of things that there are none of, whatever the machine.
_NOTHING = (
    "query-block-jobs",
    "query-jobs",
    "query-memory-devices",
    "query-vcpu-dirty-limit",
    "query-pr-managers",
    "query-block-exports",
    "query-tpm",
    "query-fdsets",
    "query-stats",
    "query-vnc-servers",
    "query-cryptodev",
)
_POLLING = {"poll-max-ns": 32768, "poll-grow": 2, "poll-shrink": 2, "poll-weight": 3, "aio-max-batch": 0}


@table.command("query-version", locked=False)
def query_version(call: Call) -> Any:
    """Say which QEMU this is."""
    return call.emulated.profile.version


@table.command("query-commands", locked=False)
def query_commands(call: Call) -> Any:
    """Name the commands."""
    return [{"name": each["name"]} for each in call.emulated.profile.schema if each["meta-type"] == "command"]


@table.command("query-qmp-schema", locked=False)
def query_schema(call: Call) -> Any:
    """Give the schema."""
    return call.emulated.profile.schema


@table.command("query-name")
def query_name(call: Call) -> Any:
    """Say what the machine is called."""
    name = call.emulated.identity.name
    return {} if name is None else {"name": name}


@table.command("query-uuid")
def query_uuid(call: Call) -> Any:
    """Say what its UUID is."""
    return {"UUID": call.emulated.identity.uuid}


@table.command("query-kvm")
def query_kvm(call: Call) -> Any:
    """Say whether KVM is used."""
    return {"enabled": call.emulated.identity.accelerator == "kvm", "present": True}


@table.command("query-accelerators")
def query_accelerators(call: Call) -> Any:
    """Say which accelerator is used, and which there are."""
    recorded = call.emulated.profile.answer("query-accelerators") or {}
    return {**recorded.get("return", {"present": ["tcg"]}), "enabled": call.emulated.identity.accelerator}


@table.command("query-cpus-fast")
def query_cpus(call: Call) -> Any:
    """List the CPUs, each with a thread of this process."""
    identity = call.emulated.identity
    threads = identity.thread_ids or [os.getpid()] * identity.cpus
    return [
        {
            "cpu-index": number,
            "qom-path": _cpu_path(number),
            "qom-type": identity.cpu_type,
            "thread-id": thread,
            "target": "x86_64",
            "props": _cpu_properties(identity, number),
        }
        for number, thread in enumerate(threads)
    ]


@table.command("query-hotpluggable-cpus")
def query_hotpluggable_cpus(call: Call) -> Any:
    """List the CPUs as those that could be plugged; the last comes first, as with QEMU."""
    identity = call.emulated.identity
    made = not call.emulated.preconfig
    return [
        {
            "props": _cpu_properties(identity, number),
            "vcpus-count": 1,
            "type": identity.cpu_type,
        }
        | ({"qom-path": _cpu_path(number)} if made else {})
        for number in reversed(range(identity.cpus))
    ]


@table.command("query-iothreads")
def query_iothreads(call: Call) -> Any:
    """List the I/O threads that the command line and clients have made."""
    return [
        {"id": name, "thread-id": os.getpid()} | {key: int(each.get(key, usual)) for key, usual in _POLLING.items()}
        for name, each in call.emulated.backends.objects.items()
        if each.get("qom-type") == "iothread"
    ]


@table.command("query-memory-size-summary")
def query_memory(call: Call) -> Any:
    """Say how much memory the guest has."""
    return {"base-memory": call.emulated.identity.memory, "plugged-memory": 0}


@table.command("query-memdev")
def query_memdev(call: Call) -> Any:
    """List the memory backends; where the command line names none for the machine's memory, it has one of its own."""
    emulated = call.emulated
    objects = {name: each for name, each in emulated.backends.objects.items() if _is_memory(each)}
    own = emulated.profile.machines.get(emulated.board.machine_type.removesuffix("-machine"), {}).get("default-ram-id")
    if own is not None and not emulated.identity.memory_backend and not emulated.preconfig:
        objects = {own: {"size": emulated.identity.memory}, **objects}
    return [_memory_backend(name, each) for name, each in objects.items()]


@table.command("query-balloon")
def query_balloon(call: Call) -> Any:
    """Say how much of its memory the guest has left, where it has a balloon."""
    board = call.emulated.board
    if not any(board.is_a(each.type, "virtio-balloon-device") for each in board.devices()):
        raise QmpError("No balloon device has been activated", "DeviceNotActive")
    return {"actual": call.emulated.identity.memory}


@table.command("query-block")
def query_block(call: Call) -> Any:
    """List the disks of devices."""
    return block_devices(call.emulated, flat=call.arguments.get("flat", False))


@table.command("query-named-block-nodes")
def query_nodes(call: Call) -> Any:
    """List the nodes that disks consist of."""
    return block_nodes(call.emulated)


@table.command("query-blockstats")
def query_blockstats(call: Call) -> Any:
    """Say what disks have done so far: nothing."""
    return block_statistics(call.emulated)


@table.command("query-spice")
def query_spice(call: Call) -> Any:
    """Say that nobody looks at a screen by Spice."""
    return {"migrated": False, "enabled": False, "mouse-mode": "client"}


@table.command("query-vnc")
def query_vnc(call: Call) -> Any:
    """Say that nobody looks at a screen by VNC."""
    return {"enabled": False}


@table.command("query-dump")
def query_dump(call: Call) -> Any:
    """Say that no memory was dumped."""
    return {"status": "none", "completed": 0, "total": 0}


@table.command("query-dirty-rate")
def query_dirty_rate(call: Call) -> Any:
    """Say that no rate of dirtying was measured."""
    return {"status": "unstarted", "sample-pages": 0, "mode": "page-sampling", "calc-time-unit": "second",
            "start-time": 0, "calc-time": 0}  # fmt: skip


@table.command("query-colo-status")
def query_colo(call: Call) -> Any:
    """Say that the machine has no twin."""
    return {"last-mode": "none", "mode": "none", "reason": "none"}


@table.command("query-replay")
def query_replay(call: Call) -> Any:
    """Say that nothing is recorded or replayed."""
    return {"icount": 0, "mode": "none"}


def _is_memory(options: Mapping[str, Any]) -> bool:
    return str(options.get("qom-type", "")).startswith("memory-backend")


def _memory_backend(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    shared = options.get("qom-type") == "memory-backend-memfd"
    switches = {"merge": True, "dump": True, "prealloc": False, "share": shared, "reserve": True}
    return {
        "id": name,
        "size": parse_size(options.get("size", 0), "size"),
        **{key: options.get(key, usual) in (True, "on", "yes", "true") for key, usual in switches.items()},
        "policy": options.get("policy", "default"),
        "host-nodes": options.get("host-nodes", []),
    }


def _nothing(call: Call) -> Any:
    return []


for _name in _NOTHING:
    table.command(_name)(_nothing)


def _cpu_properties(identity: Identity, number: int) -> dict[str, int]:
    core, thread = divmod(number, identity.threads)
    socket, core = divmod(core, identity.cores)
    return {"core-id": core, "thread-id": thread, "socket-id": socket}


def _cpu_path(number: int) -> str:
    """Give a CPU's path: after the first, there is another device before the rest."""
    return f"/machine/unattached/device[{number and number + 1}]"
