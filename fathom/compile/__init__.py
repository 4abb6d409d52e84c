"""`fathom.compile`: the same program as a plan, with the same results, fast."""

from fathom.compile.function import Compiled, RetraceWarning, compile
from fathom.compile.plan import Plan, Step, Value
from fathom.compile.trace import TraceError

__all__ = ["Compiled", "Plan", "RetraceWarning", "Step", "TraceError", "Value", "compile"]
