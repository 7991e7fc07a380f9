"""What a scenario says that has no effect where it has no link: said in notes, as nobody would find out."""

from vfio_migration.scenarios.model import Scenario
from vfio_migration.wording import listed


def without_link(scenario: Scenario) -> tuple[str, ...]:
    """Name what counts only with `[link]`, if there is none; a note, or nothing."""
    around = scenario.surroundings
    if around.link is not None:
        return ()
    given = [
        name
        for name, has in (
            ("[ram]", around.ram is not None),
            ("max_bandwidth", around.parameters.max_bandwidth is not None),
            ("switchover_bandwidth", around.parameters.switchover_bandwidth is not None),
        )
        if has
    ]
    if not given:
        return ()
    return (f"no effect of {listed(given, 'keys')}: sending takes no time without [link]",)
