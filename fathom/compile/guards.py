"""Guards: what a trace took for granted of Python's values, checked before its plan runs again.

Looked at: closures and globals that the function, and the functions of the user's it calls, name;
the modules and other objects reachable from there and from the arguments, as far as their
attributes are named or are a module's own; the identity of captured tensors and arrays. Numbers,
texts and flags must stay equal. What the trace changes among all this is found by `changes`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fathom.compile.scalar import ScalarBook
from fathom.engine.tensor import Tensor

PLAIN = (bool, int, float, str, type(None), np.generic)
REGISTRIES = ("_parameters", "_buffers", "_modules")
DEEP = 3  # objects in objects
GONE = (LookupError, AttributeError, ValueError)  # what a guard looks at is not there any more
MISS = object()  # of a call that could not be made at once


def same_text(name: str, value: Any, book: ScalarBook) -> str:
    """The test whether `name` still holds a plain value."""
    if value is None or value is True or value is False:
        return f"{name} is {value!r}"
    if isinstance(value, (np.generic, float)) and value != value:
        return f"{name} != {name}"
    if isinstance(value, np.generic):
        return f"{name} == {book.source(value, 'k')}"
    same = f"{name} is {book.source(value, 'k')}"  # the very object: nearly always, and fast
    if isinstance(value, str):
        return f"({same} or {name} == {value!r})"
    return f"({same} or {name} == {value!r} and {name}.__class__ is {type(value).__name__})"


class Captured:
    """What a function can reach besides its arguments, as it was before the trace."""

    def __init__(self, function: Callable[..., Any], arguments: Any, book: ScalarBook) -> None:
        self.book = book
        self.modules: list[Any] = []
        self.arrays: list[Any] = []  # whose contents Python may have read
        self.kept: list[tuple[Any, dict[Any, Any], Any]] = []  # dictionaries, copies, keys
        self.lists: list[tuple[list[Any], list[Any]]] = []  # and their copies
        self.cells: list[tuple[Any, Any]] = []
        self._names: set[str] = set()
        self._seen: dict[int, Any] = {}
        self.follow(function)
        for part in _leaves(arguments):
            if not isinstance(part, (*PLAIN, Tensor, np.ndarray)):
                self.thing(part)

    # -- what is reached ----------------------------------------------------------------------

    def follow(self, function: Any) -> None:
        """Closure and globals of a function, and of those that it names."""
        owner = getattr(function, "__self__", None)
        function = getattr(function, "__func__", function)
        if hasattr(function, "eager"):  # compiled itself
            function = function.eager
        if owner is None and not isinstance(function, types.FunctionType):
            calls = (vars(kind).get("__call__") for kind in type(function).__mro__)
            owner, function = function, next(filter(None, calls), None)
        if not isinstance(function, types.FunctionType) or not self.new(function):
            if owner is not None:
                self.thing(owner)
            return
        self._names |= names_of(function.__code__)
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            if _filled(cell):
                self.cells.append((cell, cell.cell_contents))
                self.value(cell, f"{name}_", ".cell_contents", cell.cell_contents)
        space = function.__globals__
        names = sorted(names_of(function.__code__))
        self.kept.append((space, {n: space[n] for n in names if n in space}, names))
        for name in names:
            if name in space:
                self.value(space, "globals_", f"[{name!r}]", space[name])
        if owner is not None:
            self.thing(owner)

    def new(self, thing: Any) -> bool:
        """Whether something is met for the first time; it is kept, with its id."""
        return self._seen.setdefault(id(thing), self) is self and not self._keep(thing)

    def _keep(self, thing: Any) -> None:
        self._seen[id(thing)] = thing

    def value(self, holder: Any, letter: str, access: str, value: Any, depth: int = 0) -> None:
        """A guard on what stands at `holder` + access, and on what is behind it."""
        book = self.book
        if isinstance(value, PLAIN):
            name = f"{book.source(holder, letter)}{access}"
            book.guards[same_text(name, value, book)] = None
        elif isinstance(value, (np.ndarray, Tensor)):
            book.same(holder, letter, access, value, "o")
            if isinstance(value, np.ndarray):
                self.arrays.append(value)
        elif isinstance(value, types.FunctionType) or hasattr(value, "eager"):
            if not _ours(value):
                book.same(holder, letter, access, value, "f")
                self.follow(value)
        elif not isinstance(value, (types.ModuleType, type, types.BuiltinFunctionType)):
            if _is_module(value) or (hasattr(value, "__dict__") and not isinstance(value, Tensor)):
                book.same(holder, letter, access, value, "o")
            elif isinstance(value, (list, tuple)):
                self.several(holder, letter, access, value, depth)
            self.thing(value, depth)

    def several(self, holder: Any, letter: str, access: str, value: Any, depth: int) -> None:
        """The parts of a short list or tuple."""
        if len(value) > 16 or depth > DEEP or not self.new(value):
            return
        if isinstance(value, list):
            self.lists.append((value, list(value)))
        name = f"{self.book.source(holder, letter)}{access}"
        self.book.guards[f"len({name}) == {len(value)}"] = None
        for i, part in enumerate(value):
            self.value(value, "list", f"[{i}]", part, depth + 1)

    def thing(self, value: Any, depth: int = 0) -> None:
        """What an object holds: of a module all plain attributes, of others those named."""
        if _is_module(value):
            self.module(value)
        elif isinstance(value, dict) and len(value) <= 64 and self.new(value):
            self.kept.append((value, dict(value), None))
            for key in [k for k in value if isinstance(k, str)]:
                self.value(value, "dict", f"[{key!r}]", value[key], depth + 1)
        elif _is_object(value) and depth <= DEEP and self.new(value):
            self.kept.append((vars(value), dict(vars(value)), None))
            for name in sorted(self._names):
                method = getattr(type(value), name, None)
                if isinstance(method, types.FunctionType):
                    self._names |= names_of(method.__code__)
            for name in sorted(self._names & vars(value).keys()):
                kind = type(value).__name__
                self.value(vars(value), kind, f"[{name!r}]", vars(value)[name], depth + 1)
            self.of_class(value)

    def of_class(self, value: Any) -> None:
        """Plain attributes that an object of the user's has from its class."""
        if not _ours(type(value)):
            for name in sorted(self._names - vars(value).keys()):
                held = getattr(type(value), name, self)
                if isinstance(held, PLAIN):
                    self.value(value, type(value).__name__, f".{name}", held)

    def module(self, root: Any) -> None:
        """All of a module and of those below it."""
        for _, module in root.named_modules():
            if not self.new(module):
                continue
            self.modules.append(module)
            own = vars(module)
            self.kept.append((own, dict(own), None))
            reports = getattr(type(module), "reports", ())
            for key, item in own.items():
                if isinstance(item, (*PLAIN, Tensor, np.ndarray)) and key not in reports:
                    self.value(own, type(module).__name__, f"[{key!r}]", item)
            for registry in (own[key] for key in REGISTRIES):
                self.kept.append((registry, dict(registry), None))
                for key, item in registry.items():
                    self.book.same(registry, "r", f"[{key!r}]", item, "o")
            if own["_modules"]:
                count = f"len({self.book.source(own['_modules'], 'r')}) == {len(own['_modules'])}"
                self.book.guards[count] = None
            if not _ours(type(module)):
                self.follow(type(module).forward)
                self.of_class(module)

    # -- what the trace has changed -----------------------------------------------------------

    def changes(self) -> Iterator[tuple[Any, Any, Any, Any]]:
        """(holder, key, before, now) of each attribute, registry entry or cell that is another."""
        for space, before, keys in self.kept:
            for key in list(space) if keys is None else keys:
                now = space.get(key, self)
                if now is not before.get(key, self) and now is not self:
                    yield space, key, before.get(key, self), now
        for cell, was in self.cells:
            if cell.cell_contents is not was:
                yield cell, None, was, cell.cell_contents

    def restore(self) -> None:
        """Everything as it was before the trace."""
        for space, before, keys in self.kept:
            if keys is None:
                space.clear()
                space.update(before)
            else:
                for key in keys:
                    self.put_back(space, key, before.get(key, self))
        for several, before_ in self.lists:
            several[:] = before_
        for cell, was in self.cells:
            cell.cell_contents = was

    def put_back(self, holder: Any, key: Any, before: Any) -> None:
        """What stood at a place before the trace, or nothing."""
        if before is self:
            holder.pop(key, None)
        else:
            put(holder, key, before)


def put(holder: Any, key: Any, value: Any) -> None:
    """Set an attribute, an entry, or the contents of a cell (key None)."""
    if key is None:
        holder.cell_contents = value
    else:
        holder[key] = value


def names_of(code: Any) -> set[str]:
    """Names of globals and attributes in a function and in those defined inside of it."""
    found = set(code.co_names)
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            found |= names_of(part)
    return found


def _filled(cell: Any) -> bool:
    try:
        return bool(cell.cell_contents is not cell)
    except ValueError:  # not filled yet
        return False


def _is_module(value: Any) -> bool:
    return hasattr(value, "named_modules") and not isinstance(value, type)


def _is_object(value: Any) -> bool:
    """An instance of a class, with attributes of its own; optimizers are read while tracing."""
    return (
        isinstance(getattr(value, "__dict__", None), dict)
        and not isinstance(value, (type, types.ModuleType, types.FunctionType, Tensor))
        and not hasattr(value, "param_groups")
    )


def _ours(thing: Any) -> bool:
    """Whether code is Fathom's own or comes with Python and NumPy: what it reads stays."""
    name = getattr(thing, "__module__", None) or ""
    return name.partition(".")[0] in ("fathom", "numpy", "builtins", "functools", "math")


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, (tuple, list)):
        for part in tree:
            yield from _leaves(part)
    elif isinstance(tree, dict):
        yield from _leaves(tuple(tree.values()))
    else:
        yield tree
