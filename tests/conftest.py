import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No test depends on how quick the machine is: what takes too long is ended by pytest-timeout.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

pytest_plugins = ["pytester"]


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, here and in processes started here, also where SIGINT was ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
