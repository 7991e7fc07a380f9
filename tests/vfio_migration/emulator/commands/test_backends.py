"""What devices are connected to can be made and taken away, with QEMU's words where it cannot."""

from typing import Any

import pytest

from vfio_migration.emulator.command_line.configuration import read_command_line
from vfio_migration.testing import QmpClient, QmpClientError, QmpPair

NULL = {"type": "null", "data": {}}


def execute(qmp: QmpClient, command: str, arguments: dict[str, Any]) -> Any:
    return qmp.execute(command, **arguments)


@pytest.mark.parametrize(
    ("add", "remove", "again", "gone"),
    [
        (
            ("netdev_add", {"type": "user", "id": "a"}),
            ("netdev_del", {"id": "a"}),
            "Duplicate ID 'a'",
            "Device 'a' not found",
        ),
        (
            ("chardev-add", {"id": "a", "backend": NULL}),
            ("chardev-remove", {"id": "a"}),
            "Chardev with id 'a' already exists",
            "Chardev 'a' not found",
        ),
        (
            ("object-add", {"qom-type": "iothread", "id": "a"}),
            ("object-del", {"id": "a"}),
            "attempt to add duplicate property 'a' to object (type 'container')",
            "object 'a' not found",
        ),
        (
            ("blockdev-add", {"driver": "null-co", "node-name": "a"}),
            ("blockdev-del", {"node-name": "a"}),
            "Duplicate nodes with node-name='a'",
            "Failed to find node with node-name='a'",
        ),
    ],
)
def test_a_backend_is_made_once_and_taken_away_once(
    qmp_pair: QmpPair, add: Any, remove: Any, again: str, gone: str
) -> None:
    qmp = qmp_pair.source.qmp
    execute(qmp, *add)
    with pytest.raises(QmpClientError) as error:
        execute(qmp, *add)
    assert again in str(error.value)
    execute(qmp, *remove)
    with pytest.raises(QmpClientError) as error:
        execute(qmp, *remove)
    assert gone in str(error.value)


def test_a_node_that_another_stands_on_stays(qmp_pair: QmpPair) -> None:
    qmp = qmp_pair.source.qmp
    below = {"driver": "null-co", "node-name": "below", "size": 4096}
    execute(qmp, "blockdev-add", {"driver": "raw", "node-name": "top", "file": below})
    execute(qmp, "blockdev-add", {"driver": "raw", "node-name": "other", "file": "top"})
    with pytest.raises(QmpClientError, match="Block device top is in use"):
        execute(qmp, "blockdev-del", {"node-name": "top"})
    nodes = {each["node-name"]: each for each in qmp.execute("query-named-block-nodes")}
    assert nodes["other"]["image"]["virtual-size"] == 4096
    assert nodes["top"]["children"] == [{"child": "file", "node-name": "below"}]
    execute(qmp, "blockdev-del", {"node-name": "other"})
    execute(qmp, "blockdev-del", {"node-name": "top"})
    assert qmp.execute("query-named-block-nodes") == []


def test_a_ring_gives_what_was_written_once(qmp_pair: QmpPair) -> None:
    qmp = qmp_pair.source.qmp
    qmp.execute("chardev-add", id="ring", backend={"type": "ringbuf", "data": {"size": 4}})
    qmp.execute("ringbuf-write", device="ring", data="hello")
    assert qmp.execute("ringbuf-read", device="ring", size=3) == "ell"
    assert qmp.execute("ringbuf-read", device="ring", size=9) == "o"


def test_an_object_is_read_and_set_by_its_path(qmp_pair: QmpPair) -> None:
    qmp = qmp_pair.source.qmp
    execute(qmp, "object-add", {"qom-type": "iothread", "id": "io", "poll-max-ns": 1000})
    assert qmp.execute("qom-get", path="/objects/io", property="poll-max-ns") == 1000
    qmp.execute("qom-set", path="/objects/io", property="poll-max-ns", value=5)
    assert qmp.execute("qom-get", path="io", property="poll-max-ns") == 5
    qmp.execute("object-del", id="io")
    with pytest.raises(QmpClientError, match="not found"):
        qmp.execute("qom-list", path="/objects/io")


@pytest.mark.parametrize(
    ("said", "cores", "threads"),
    [("4,sockets=2", 2, 1), ("2,maxcpus=4", 4, 1), ("4,sockets=1,cores=2,threads=2", 2, 2), ("1", 1, 1)],
)
def test_cores_are_as_many_as_it_takes(said: str, cores: int, threads: int) -> None:
    configuration = read_command_line(["-smp", said])
    assert (configuration.topology.cores, configuration.topology.threads) == (cores, threads)
