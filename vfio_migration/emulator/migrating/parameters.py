"""Migration parameters: names, defaults, and what values they take (QEMU's `migrate_params_check`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vfio_migration.emulator.errors import QmpError
from vfio_migration.live import MigrationParameters

MS_PER_SECOND = 1000
_PAGE = 4096
_MIB = 1024 * 1024
_LARGEST_CHUNK = 1024 * _MIB

_Check = Callable[[Any, Mapping[str, Any]], "str | None"]


@dataclass(frozen=True)
class Parameter:
    """
    One parameter: its default, what `info migrate_parameters` shows behind its value (None: it is not shown), and what
    is wrong with a value, in QEMU's words, None if nothing is.
    """

    name: str
    default: Any
    unit: str | None = ""
    check: _Check = lambda _value, _all: None


def _between(lowest: int, highest: int) -> Callable[[str], _Check]:
    return lambda name: (
        lambda value, _: (
            None if lowest <= value <= highest else f"Option {name} expects a value between {lowest} and {highest}"
        )
    )


def _in_range(lowest: int, highest: int, said: str = "") -> Callable[[str], _Check]:
    shown = said or f"{lowest} to {highest}"
    return lambda name: (
        lambda value, _: (
            None if lowest <= value <= highest else f"Option {name} expects an integer in the range of {shown}"
        )
    )


def _max_throttle(value: int, parameters: Mapping[str, Any]) -> str | None:
    if parameters["cpu-throttle-initial"] <= value <= 99:  # noqa: PLR2004 - per cent
        return None
    return "Option max-cpu-throttle expects an integer in the range of cpu-throttle-initial to 99"


def _cache_size(value: int, _: Mapping[str, Any]) -> str | None:
    if value >= _PAGE and not value & (value - 1):
        return None
    return "Option xbzrle-cache-size expects a power of two no less than the target page size"


def _dirty_limit(value: int, _: Mapping[str, Any]) -> str | None:
    return None if value >= 1 else "Parameter 'vcpu-dirty-limit' must be greater than 1 MB/s"


def _chunk_size(value: int, _: Mapping[str, Any]) -> str | None:
    if _MIB <= value <= _LARGEST_CHUNK and not value & (value - 1):
        return None
    return "Option x_rdma_chunk_size expects a power of 2 in the range 1MiB to 1024MiB"


def _named(name: str, default: Any, unit: str | None, check: Callable[[str], _Check]) -> Parameter:
    return Parameter(name, default, unit, check(name))


_BANDWIDTH = " bytes/second"
# In the order in which they are checked, and shown to people.
PARAMETERS = (
    _named("announce-initial", 50, " ms", _between(0, 100_000)),
    _named("announce-max", 550, " ms", _between(0, 100_000)),
    _named("announce-rounds", 5, "", _between(0, 1000)),
    _named("announce-step", 100, " ms", _between(1, 10_000)),
    _named("throttle-trigger-threshold", 50, "", _in_range(1, 100)),
    _named("cpu-throttle-initial", 20, "", _in_range(1, 99)),
    _named("cpu-throttle-increment", 10, "", _in_range(1, 99)),
    Parameter("cpu-throttle-tailslow", default=False),
    Parameter("max-cpu-throttle", 99, "", _max_throttle),
    Parameter("tls-creds", ""),
    Parameter("tls-hostname", ""),
    Parameter("tls-authz", ""),
    Parameter("max-bandwidth", 128 * _MIB, _BANDWIDTH),
    Parameter("avail-switchover-bandwidth", 0, _BANDWIDTH),
    Parameter("max-postcopy-bandwidth", 0, _BANDWIDTH),
    _named("downtime-limit", 300, " ms", _in_range(0, 2_000_000, "0 to (2000 * 1000) ms")),
    Parameter("x-checkpoint-delay", 20_000, " ms"),
    _named("multifd-channels", 2, "", _between(1, 255)),
    Parameter("multifd-compression", "none"),
    _named("multifd-zlib-level", 1, None, _between(0, 9)),
    _named("multifd-qatzip-level", 1, None, _between(1, 9)),
    _named("multifd-zstd-level", 1, None, _between(0, 20)),
    Parameter("zero-page-detection", "multifd"),
    Parameter("xbzrle-cache-size", 64 * _MIB, " bytes", _cache_size),
    Parameter("block-bitmap-mapping", None),
    _named("x-vcpu-dirty-limit-period", 1000, " ms", _between(1, 1000)),
    Parameter("vcpu-dirty-limit", 1, " MB/s", _dirty_limit),
    Parameter("mode", "normal"),
    Parameter("direct-io", default=False),
    Parameter("x-rdma-chunk-size", _MIB, " bytes", _chunk_size),
    Parameter("cpr-exec-command", ()),
)
_NULLABLE = ("tls-creds", "tls-hostname", "tls-authz")
_OPTIONAL = ("block-bitmap-mapping",)  # which is not there before somebody has given it
DEFAULTS: Mapping[str, Any] = MappingProxyType({each.name: each.default for each in PARAMETERS})


def check_parameters(wanted: Mapping[str, Any]) -> None:
    """
    See that values can be used; `wanted` has all parameters.

    Raises:
        QmpError: one cannot.

    """
    for parameter in PARAMETERS:
        wrong = parameter.check(wanted[parameter.name], wanted)
        if wrong is not None:
            raise QmpError(wrong)


def changed_parameters(parameters: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Give all parameters with changes; a text that is null is an empty one. Raises as `check_parameters`."""
    changes = {name: "" if value is None and name in _NULLABLE else value for name, value in changes.items()}
    wanted = {**parameters, **changes}
    check_parameters(wanted)
    return wanted


def shown_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Give what `query-migrate-parameters` answers."""
    return {name: value for name, value in parameters.items() if value is not None or name not in _OPTIONAL}


def live_parameters(parameters: Mapping[str, Any], capabilities: Mapping[str, bool]) -> MigrationParameters:
    """Give what they come to for a migration; 0 bytes per second are as many as the link takes."""
    return MigrationParameters(
        downtime_limit_s=parameters["downtime-limit"] / MS_PER_SECOND,
        max_bandwidth=parameters["max-bandwidth"] or None,
        switchover_bandwidth=parameters["avail-switchover-bandwidth"] or None,
        multifd_channels=parameters["multifd-channels"] if capabilities["multifd"] else 0,
        return_path=capabilities["return-path"],
        switchover_ack=capabilities["switchover-ack"],
    )
