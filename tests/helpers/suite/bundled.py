"""The scenarios that come with the package, as parameters of tests that run them."""

import pytest

from vfio_migration.scenarios.file import bundled_scenarios

# 64 GB in pieces: each run takes seconds of real time, also in virtual time, and more on a busy machine.
_LONG = {"gpus": [pytest.mark.slow, pytest.mark.timeout(300)]}

BUNDLED = [pytest.param(name, marks=_LONG.get(name, ())) for name in bundled_scenarios()]
# Without it: a minute and more of CI for each test of what does not depend on how large a state is.
SHORT = [each for each in BUNDLED if each.values[0] not in _LONG]
