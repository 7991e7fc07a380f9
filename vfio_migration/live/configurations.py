"""What a source says of itself before all else, so that a destination that is another finds out at once."""

from collections.abc import Callable, Iterable, Mapping

from vfio_migration.errors import StreamError
from vmstate import Migratable


def configurations_of(migratables: Iterable[Migratable]) -> dict[str, bytes]:
    """Give what those have to say that have something, by their ids."""
    said = {}
    for migratable in migratables:
        say: Callable[[], bytes] | None = getattr(migratable, "configuration", None)
        if say is not None:
            said[migratable.id] = say()
    return said


def check_configurations(migratables: Iterable[Migratable], said: Mapping[str, bytes]) -> None:
    """
    Have each compare what its counterpart has said; one whose counterpart has said nothing compares nothing.

    Raises:
        StreamError: something was said that nobody here understands.
        BaseException: what a comparison raised.

    """
    by_id = {migratable.id: migratable for migratable in migratables}
    for name, data in said.items():
        check: Callable[[bytes], None] | None = getattr(by_id.get(name), "check_configuration", None)
        if check is None:
            raise StreamError(f"a configuration of {name!r}, which this machine does not have")
        check(data)
