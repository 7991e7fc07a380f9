"""What `migrate` and `migrate-incoming` are told of where to, as a uri or as channels (QEMU's `migrate_uri_parse`)."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from vfio_migration.emulator.errors import QmpError
from vfio_migration.errors import AddressError
from vfio_migration.live import parse_uri

_SEVERAL = ("tcp", "unix", "vsock")  # over which there may be multifd channels
_OPTIONS = ("to=", "ipv4", "ipv6", "keep-alive")  # of QEMU's inet addresses; nothing here depends on them


def uri_of_arguments(arguments: Mapping[str, Any]) -> str:
    """
    Give the uri that the arguments `uri` or `channels` name.

    Raises:
        QmpError: there is none, or more than one.

    """
    channels = arguments.get("channels") or []
    uri = arguments.get("uri")
    if uri is not None and channels:
        raise QmpError(
            "'uri' and 'channels' arguments are mutually exclusive; exactly one of the two should be present"
        )
    if channels:
        return _of_channels(channels)
    if uri is None:
        raise QmpError("need either 'uri' or 'channels' argument")
    return str(uri)


def check_uri(uri: str) -> str:
    """
    Give the uri as this project has it, once it is known to say something; `fd:NAME` and `rdma:` stay what they are.

    Raises:
        QmpError: it says nothing.

    """
    kind, colon, rest = uri.partition(":")
    if colon and kind in ("fd", "rdma"):
        return uri
    if kind == "tcp":
        address, *options = rest.split(",")
        if any(not each.startswith(_OPTIONS) for each in options):
            raise QmpError(f"error parsing address '{rest}'")
        uri = f"tcp:{address}"
    try:
        parse_uri(uri)
    except AddressError as error:
        if "is too long" not in str(error):  # of which QEMU finds out when it connects
            raise QmpError(str(error)) from error
    return uri


def may_have_channels(uri: str) -> bool:
    """Whether there may be more than one connection to it."""
    return uri.partition(":")[0] in _SEVERAL


def socket_address(uri: str) -> dict[str, Any] | None:
    """Give an address as `query-migrate` shows it, of what is listened at; None of what is no address of a socket."""
    kind, _, rest = uri.partition(":")
    if kind == "unix":
        return {"path": rest, "type": "unix"}
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        six = host.startswith("[")
        return {"port": port, "ipv6" if six else "ipv4": True, "host": host.strip("[]"), "type": "inet"}
    return None


def shown_address(address: Mapping[str, Any]) -> str:
    """Give an address of `socket_address` as `info migrate` shows it."""
    if address["type"] == "unix":
        return f"unix:{address['path']}"
    return f"tcp:{address['host']}:{address['port']}"


def _of_channels(channels: Sequence[Mapping[str, Any]]) -> str:
    main: Mapping[str, Any] | None = None
    for channel in channels:
        kind = channel["channel-type"]
        if kind == "main" and main is not None:
            raise QmpError("Channel list has more than one main entry")
        if kind != "main":
            raise QmpError("Channel list must have one main entry and one optional CPR entry")
        main = channel
    if main is None:
        raise QmpError("Channel list has no main entry")
    return _uri_of(main["addr"])


def _uri_of(address: Mapping[str, Any]) -> str:
    transport = address["transport"]
    if transport == "socket":
        return _uri_of_socket(address)
    if transport == "exec":
        return f"exec:{_command(address['args'])}"
    if transport == "rdma":
        return f"rdma:{address['host']}:{address['port']}"
    offset = address.get("offset", 0)
    return f"file:{address['filename']}" + (f",offset={offset}" if offset else "")


def _uri_of_socket(address: Mapping[str, Any]) -> str:
    kind = address["type"]
    if kind == "unix":
        return f"unix:{address['path']}"
    if kind == "vsock":
        return f"vsock:{address['cid']}:{address['port']}"
    if kind == "fd":
        return f"fd:{address['str']}"
    host = address["host"]
    return f"tcp:{f'[{host}]' if ':' in host else host}:{address['port']}"


def _command(words: Sequence[str]) -> str:
    """Give a command line for words: those of a shell with a command are that command."""
    shell_and_option = 2
    if len(words) == shell_and_option + 1 and words[1] == "-c":
        return words[2]
    return shlex.join(words)
