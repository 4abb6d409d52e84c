"""Whether a function of the user's only computes, as far as its code tells.

A plan repeats what a function computes and nothing else it does. Code that names only what is
known here, and writes to nothing outside of itself, can be replayed without asking.
"""

from __future__ import annotations

import builtins
import dis
import inspect
import math
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from fathom.engine.tensor import Tensor

PLAIN = (bool, int, float, complex, str, type(None), np.generic, np.dtype)
WRITES = {
    "STORE_ATTR", "DELETE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR", "STORE_GLOBAL", "DELETE_GLOBAL",
    "STORE_SLICE", "IMPORT_NAME", "IMPORT_FROM",
}  # fmt: skip
METHODS = {
    "append", "apply", "clear", "eval", "extend", "insert", "load_state_dict", "pop", "popitem",
    "random", "remove", "requires_grad_", "setdefault", "train", "update",
}  # fmt: skip
BUILTINS = {
    abs, all, any, bool, dict, divmod, enumerate, float, int, isinstance, len, list, map, max, min,
    pow, range, reversed, round, slice, sorted, sum, tuple, zip,
}  # fmt: skip


def impurity(function: Any) -> str:
    """What speaks against replaying a function; "" if nothing does.

    >>> impurity(lambda x: abs(x) + 1)
    ''
    >>> impurity(lambda x: print(x))
    'it names print'
    """
    return _impurity(function, set())


def _impurity(function: Any, seen: set[int]) -> str:
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        return "" if _known(function, seen) else "it is no plain function"
    if id(function) in seen:
        return ""
    seen.add(id(function))
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        return "it is a generator"
    own = function.__code__
    cells = zip(own.co_freevars, function.__closure__ or (), strict=True)
    try:
        space = {name: cell.cell_contents for name, cell in cells}
    except ValueError:
        return "it names what is not there yet"
    for code in _codes(own):
        for step in dis.get_instructions(code):
            name = str(step.argval)
            if step.opname in WRITES or (
                step.opname in ("STORE_DEREF", "DELETE_DEREF") and name in own.co_freevars
            ):
                return "it writes to something"
            if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and name in METHODS:
                return f"it calls {name}"
            if step.opname == "LOAD_GLOBAL":
                names = function.__globals__
                space[name] = names[name] if name in names else getattr(builtins, name, print)
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    for name, value in (*space.items(), *(("a default", d) for d in defaults)):
        if not _known(value, seen):
            return f"it names {name}"
    return ""


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code of a function and of those inside of it."""
    yield code
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _codes(part)


def _known(value: Any, seen: set[int]) -> bool:
    """Whether nothing happens behind a value but what a trace notes."""
    if isinstance(value, (*PLAIN, Tensor, np.ndarray, np.ufunc)):
        return True
    if isinstance(value, tuple):
        return all(_known(part, seen) for part in value)
    if isinstance(value, types.ModuleType):
        return value in (np, math) or _ours(value.__name__)
    if hasattr(value, "named_modules") and not isinstance(value, type):
        return all(_ours(type(m).__module__) for _, m in value.named_modules())
    if isinstance(value, types.FunctionType) and not _ours(value.__module__ or ""):
        return not _impurity(value, seen)
    if isinstance(value, (types.FunctionType, type)) and _ours(value.__module__ or ""):
        return True
    try:
        return value in BUILTINS
    except TypeError:
        return False


def _ours(module: str) -> bool:
    return module.partition(".")[0] == "fathom"


__all__ = ["impurity"]
