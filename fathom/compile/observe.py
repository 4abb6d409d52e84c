"""Calls that someone watches: hooks on modules run, and a plan of its own serves who can say how.

A plan replays operations and calls no hooks. Hooks that are there when a compiled function is
called are therefore looked for: a `Watcher` (`doctor.record`) gets its values from the observed
variant, a plan with what it keeps as further results; any other hook makes that call eager.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from fathom.compile.guards import Captured
from fathom.compile.scalar import ScalarBook
from fathom.compile.traced import TraceError
from fathom.engine.errors import FathomWarning
from fathom.engine.tensor import Removable, Tensor, warn_once

if TYPE_CHECKING:
    from fathom.compile.function import Compiled, Entry

ON_MODULES = ("_pre_hooks", "_hooks", "_backward_hooks")
ON_LEAVES = ("hooks", "accumulated")
VARIANTS = 8  # observed variants that are kept of a function


class EagerWarning(FathomWarning):
    """A compiled function, or a method that compiles by itself, runs without a plan."""


class Watcher(Protocol):
    """Who keeps values of a call through hooks; each of its hooks has it as `watcher`."""

    def key(self) -> Hashable:
        """What is kept: watchers of one key share a plan. None where a plan cannot serve."""

    def draft(self) -> AbstractContextManager[list[Any]]:
        """Inside, the hooks note (as stand-ins) in a list of their own, full at the end."""

    def take(self, found: list[Any]) -> None:
        """Such a list, with the values of a call."""


class Hooks:
    """The hooks on what a plan has met, as they were when it was traced."""

    def __init__(self, modules: list[Any], tensors: Iterable[Any]) -> None:
        self.modules = modules
        self.leaves = [t for t in tensors if isinstance(t, Tensor) and t.is_leaf]
        self.then = self._on_leaves()
        self.changes = Removable.changes

    def same(self) -> bool:
        """Whether hooks have come or gone elsewhere only."""
        changes = Removable.changes
        if next(on_modules(self.modules), None) is not None or not self.same_on_leaves():
            return False
        self.changes = changes
        return True

    def same_on_leaves(self) -> bool:
        return self._on_leaves() == self.then

    def _on_leaves(self) -> list[Any]:
        leaves = ((i, t.extra) for i, t in enumerate(self.leaves) if t.extra)
        return [(i, kind, h) for i, e in leaves for kind in ON_LEAVES for h in e.get(kind, ())]


def on_modules(modules: Iterable[Any]) -> Iterator[Any]:
    """The hooks on modules that plans must heed; one that is `passive` need not see each call."""
    for module in modules:
        for kind in ON_MODULES:
            hooks = getattr(module, kind)
            if hooks:
                yield from [hook for hook in hooks if not hasattr(hook, "passive")]


def on_function(function: Callable[..., Any], args: Any, keywords: Any) -> list[Any]:
    """The hooks on the modules that a function can reach."""
    if not Removable.changes:  # there never was one
        return []
    return list(on_modules(Captured(function, (args, keywords), ScalarBook()).modules))


def run(compiled: Compiled, hooks: list[Any], args: Any, keywords: Any) -> Any:
    """A call under the eyes of hooks."""
    other = next((hook for hook in hooks if not hasattr(hook, "watcher")), None)
    if other is not None:
        name, by = (getattr(f, "__name__", type(f).__name__) for f in (compiled.eager, other))
        warn_once(
            EagerWarning,
            f"{name} runs without its plan while a module has hooks of its own ({by}); "
            "doctor.record can be served by a plan",
        )
        return compiled.eager(*args, **keywords)
    watchers = list({id(hook.watcher): hook.watcher for hook in hooks}.values())
    keys = tuple(watcher.key() for watcher in watchers)
    if None in keys:
        return compiled.eager(*args, **keywords)
    variant = compiled.observed.get(keys)
    if variant is None:
        if len(compiled.observed) == VARIANTS:
            del compiled.observed[next(iter(compiled.observed))]
        variant = compiled.observed[keys] = _variant(compiled)
    function: Observed = variant.eager
    function.watchers = watchers
    try:
        result, lists = variant(*args, **keywords)
    except (TraceError, NotImplementedError):
        return compiled.eager(*args, **keywords)
    finally:
        function.watchers = []
    for watcher, found in zip(watchers, lists, strict=True):
        watcher.take(found)
    return result


class Observed:
    """A function that returns, too, what the watchers of the moment have noted."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function, updated=())
        self.__self__ = getattr(function, "__self__", None)  # guards look where they would
        self.__func__ = getattr(function, "__func__", function)
        self.function = function
        self.watchers: list[Any] = []

    def __call__(self, *args: Any, **keywords: Any) -> tuple[Any, list[Any]]:
        with ExitStack() as stack:
            lists = [stack.enter_context(watcher.draft()) for watcher in self.watchers]
            return self.function(*args, **keywords), lists


def _variant(compiled: Compiled) -> Any:
    """The compiled form of an `Observed`; the watchers' own hooks do not count there."""
    from fathom.compile.function import Compiled

    class Variant(Compiled):
        def _unwatched(self, entry: Entry) -> bool:
            return entry.hooks.same_on_leaves()

        def _first(self, key: Any, leaves: list[Any], args: Any, keywords: Any) -> Any:
            return self.trace(key, args, keywords).run(leaves)

    return Variant(Observed(compiled.eager), compiled.backend)


__all__ = ["EagerWarning", "Hooks", "Observed", "Watcher", "on_function", "on_modules", "run"]
