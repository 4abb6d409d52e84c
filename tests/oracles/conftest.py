"""Oracles are skipped where they are not installed, unless FATHOM_REQUIRE_ORACLES is set.

A test module says `torch = pytest.importorskip("torch")`. With the variable set (as in CI), a
missing oracle must not pass silently as a skip: importing it here fails the whole session.
"""

import importlib
import os

if os.environ.get("FATHOM_REQUIRE_ORACLES"):
    for name in ("torch", "scipy", "sklearn"):
        importlib.import_module(name)
