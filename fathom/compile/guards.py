"""Guards: what a trace took for granted of Python's values, checked before its plan runs again.

Looked at: what the function closes over and the globals it names, the plain attributes of the
modules reachable from there and from the arguments (mode, probabilities, slopes), and the
identity of captured objects. What deeper helper functions read from their own globals is not.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fathom.compile.scalar import ScalarBook
from fathom.engine.tensor import Tensor

PLAIN = (bool, int, float, str, type(None))


def collect(function: Callable[..., Any], arguments: Any, book: ScalarBook) -> None:
    """Put guards on what a function captures."""
    seen: set[int] = set()
    for holder, letter, access, value in captured(function):
        if isinstance(value, PLAIN):
            if value == value:  # nan never equals itself
                book.guards[f"{book.source(holder, letter)}{access} == {value!r}"] = None
        elif isinstance(value, (np.ndarray, Tensor)) or _is_module(value):
            book.same(holder, letter, access, value, "o")
        _modules(value, book, seen)
    _modules(getattr(function, "__self__", None), book, seen)
    if _is_module(function):
        _modules(function, book, seen)
    for part in _leaves(arguments):
        _modules(part, book, seen)


def captured(function: Any) -> Iterator[tuple[Any, str, str, Any]]:
    """(holder, letter, access, value) of each closure cell and each global a function names."""
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        return
    for cell in function.__closure__ or ():
        try:
            yield cell, "cell", ".cell_contents", cell.cell_contents
        except ValueError:  # not filled yet
            continue
    for name in function.__code__.co_names:
        if name in function.__globals__:
            value = function.__globals__[name]
            if not isinstance(value, (types.ModuleType, type, types.FunctionType)):
                yield function.__globals__, "names", f"[{name!r}]", value


def _is_module(value: Any) -> bool:
    return hasattr(value, "named_modules") and not isinstance(value, type)


def _modules(value: Any, book: ScalarBook, seen: set[int]) -> None:
    """Guards on the plain attributes of a module and all below it."""
    if not _is_module(value):
        return
    for _, module in value.named_modules():
        if id(module) in seen:
            continue
        seen.add(id(module))
        for key, item in vars(module).items():
            if isinstance(item, PLAIN) and item == item:
                name = book.source(vars(module), "m")
                book.guards[f"{name}[{key!r}] == {item!r}"] = None


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, (tuple, list)):
        for part in tree:
            yield from _leaves(part)
    elif isinstance(tree, dict):
        yield from _leaves(tuple(tree.values()))
    else:
        yield tree
