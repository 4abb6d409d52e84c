"""Both back ends for tests that ask for `backend`.

FATHOM_NATIVE=0 leaves native code out everywhere (`backend="auto"` is NumPy then), as on a
machine without llvmlite; FATHOM_NATIVE=1, the default, runs both.
"""

from __future__ import annotations

import pytest

from tests.compiled import BACKENDS


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param
