"""`fathom.compile`: the same program as a plan, with the same results, fast."""

import sys
import types
from typing import Any

from fathom.compile.function import Compiled, RetraceWarning, compile
from fathom.compile.observe import EagerWarning
from fathom.compile.plan import Plan, Step, Value
from fathom.compile.traced import TraceError


class _Package(types.ModuleType):
    """`fathom.compile` is a function; whoever holds the package of that name may call it, too."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return compile(*args, **options)


sys.modules[__name__].__class__ = _Package

__all__ = [
    "Compiled",
    "EagerWarning",
    "Plan",
    "RetraceWarning",
    "Step",
    "TraceError",
    "Value",
    "compile",
]
