"""`record`: what every module puts out, and the gradient that comes back to it, by name.

Everything else in the doctor stands on this. It watches through hooks on modules and on their
outputs, adds nothing to the graph, and takes the hooks away when its block ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.tensor import Array, Removable, Tensor
from fathom.func import leaves, tree_map
from fathom.nn.module import Module

Filter = str | type[Module] | Callable[[str, Module], bool] | Iterable[Any] | None
Replacement = Callable[[Any], Any]


@dataclass(eq=False)
class Seen:
    """One call of one module: arrays, copied when they passed.

    name : dotted, with "#2" for the second call. output : an array, or tuples and dictionaries
    of them as the module returned. inputs : the same of what it was given, if asked for.
    """

    name: str
    module: Module
    output: Any
    inputs: tuple[Any, ...] = ()
    _deltas: list[Array | None] = field(default_factory=list, repr=False)

    @property
    def delta(self) -> Any:
        """The gradient with respect to `output`, shaped like it; None until backward was here.

        Where a part of a tuple got no gradient, None stands in its place.
        """
        if all(d is None for d in self._deltas):
            return None
        remaining = iter(self._deltas)
        return tree_map(lambda _: next(remaining), self.output)

    @property
    def array(self) -> Array:
        """The output, or of several the first that is an array."""
        return self.output if _is_array(self.output) else leaves_of(self.output)[0]

    @property
    def gradient(self) -> Array | None:
        """The part of `delta` that belongs to `array`."""
        first = next((i for i, a in enumerate(leaves(self.output)) if _is_array(a)), 0)
        return self._deltas[first] if self._deltas else None

    @property
    def input(self) -> Array:
        """The first input that is an array."""
        found = leaves_of(self.inputs)
        if not found:
            raise ArgumentError(
                f"{self.name or 'the model'}: no inputs were recorded",
                fix="record(model, inputs=True)",
            )
        return found[0]


class Record(Mapping[str, Seen]):
    """Calls by name, in the order in which they ended (children before their parents)."""

    def __init__(self, model: Module, only: Filter, inputs: bool) -> None:
        self._modules = dict(model.named_modules())
        self._chosen = choose(self._modules, only)
        self._with_inputs = inputs
        self._replacements: dict[str, Replacement] = {}
        self._seen: dict[str, Seen] = {}
        self._calls: dict[str, int] = {}
        self._on_modules: list[Removable] = []
        self._on_tensors: list[Removable] = []

    def __getitem__(self, name: str) -> Seen:
        if name not in self._seen:
            raise ArgumentError(f"nothing was recorded as {name!r}", fix=suggest(name, self._seen))
        return self._seen[name]

    def __contains__(self, name: object) -> bool:
        return name in self._seen

    def get(self, name: str, default: Any = None) -> Any:
        return self._seen.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)

    def clear(self) -> None:
        """Forget what was seen; the next call of a module is its first again."""
        _remove(self._on_tensors)
        self._seen.clear()
        self._calls.clear()

    def replace(self, name: str, function: Replacement) -> None:
        """Let `function(output)` stand for the output of a module until the block ends.

        name : "encoder.0" for every call of it, "encoder.0#2" for the second call alone. What
        the function returns goes on, and is recorded; None leaves the output as it is.
        """
        path, _, call = name.partition("#")
        if path not in self._modules or (call and not (call.isdecimal() and int(call))):
            raise ArgumentError(f"no module {name!r}", fix=suggest(path, self._modules))
        self._replacements[name] = function

    # -- hooks --------------------------------------------------------------------------

    def _open(self) -> None:
        for name, module in self._modules.items():
            self._on_modules.append(module.register_forward_hook(self._hook(name)))

    def _close(self) -> None:
        _remove(self._on_modules)
        _remove(self._on_tensors)

    def _hook(self, name: str) -> Callable[..., Any]:
        def note(module: Module, given: tuple[Any, ...], output: Any) -> Any:
            call = self._calls[name] = self._calls.get(name, 0) + 1
            replaced = self._replaced(name, call, output)
            if name in self._chosen:
                path = name if call == 1 else f"{name}#{call}"
                self._note(path, module, given, output if replaced is None else replaced)
            return replaced

        note.watcher = self  # type: ignore[attr-defined]  # so that plans serve it
        return note

    # -- in a compiled step (see `compile.observe`) ----------------------------------------

    def key(self) -> Any:
        """What is kept; None where Python has to change values on their way."""
        return None if self._replacements else (self._with_inputs, tuple(self._chosen.items()))

    @contextmanager
    def draft(self) -> Iterator[list[Seen]]:
        """Note what happens inside in a list of its own, calls counted from 1."""
        kept = self._seen, self._calls, self._on_tensors
        self._seen, self._calls, self._on_tensors = {}, {}, []
        found: list[Seen] = []
        try:
            yield found
            found.extend(self._seen.values())
        finally:
            self._seen, self._calls, self._on_tensors = kept

    def take(self, found: list[Seen]) -> None:
        """Take in the calls of a compiled step."""
        for seen in found:
            name = seen.name.partition("#")[0]
            call = self._calls[name] = self._calls.get(name, 0) + 1
            seen.name = name if call == 1 else f"{name}#{call}"
            self._seen[seen.name] = seen

    def _replaced(self, name: str, call: int, output: Any) -> Any:
        function = self._replacements.get(f"{name}#{call}") or self._replacements.get(name)
        found = None if function is None else function(output)
        return Tensor(found) if _is_array(found) else found

    def _note(self, path: str, module: Module, given: tuple[Any, ...], output: Any) -> None:
        inputs = tree_map(_copied, given) if self._with_inputs else ()
        parts = leaves(output)
        seen = Seen(path, module, tree_map(_copied, output), inputs, [None] * len(parts))
        for i, part in enumerate(parts):
            if isinstance(part, Tensor) and part.requires_grad:
                self._on_tensors.append(part.register_hook(_taker(seen._deltas, i)))
        self._seen[path] = seen


def _taker(deltas: list[Array | None], i: int) -> Callable[[Tensor], None]:
    def take(gradient: Tensor) -> None:
        deltas[i] = _copied(gradient)

    return take


def _remove(hooks: list[Removable]) -> None:
    for hook in hooks:
        hook.remove()
    hooks.clear()


def _copied(value: Any) -> Any:
    return value.storage().copy() if isinstance(value, Tensor) else value


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array_interface__")


def leaves_of(tree: Any) -> list[Array]:
    """The arrays in nested tuples and dictionaries."""
    return [leaf for leaf in leaves(tree) if _is_array(leaf)]


def choose(modules: Mapping[str, Module], only: Filter) -> dict[str, Module]:
    """The modules a filter lets through; an `ArgumentError` if none does.

    only : a name or pattern ("encoder.*"), a class, a function of name and module, or several of
    these, of which one must fit. None lets everything through.
    """
    if only is None:
        return dict(modules)
    several = isinstance(only, Iterable) and not isinstance(only, str | type)
    tests: list[Any] = list(only) if several else [only]  # type: ignore[arg-type]
    found = {n: m for n, m in modules.items() if any(_fits(test, n, m) for test in tests)}
    if not found:
        raise ArgumentError(
            f"no module fits only={only!r}",
            fix=suggest(only, filter(None, modules)) if isinstance(only, str) else "",
        )
    return found


def _fits(test: Any, name: str, module: Module) -> bool:
    if isinstance(test, str):
        return fnmatchcase(name, test)
    return isinstance(module, test) if isinstance(test, type) else bool(test(name, module))


@contextmanager
def record(
    model: Module,
    only: Filter = None,
    *,
    inputs: bool = False,
    replace: Mapping[str, Replacement] | None = None,
) -> Iterator[Record]:
    """Watch a model: outputs after forward, gradients with respect to them after backward.

    Parameters
    ----------
    only : what to keep; a name or pattern ("encoder.*"), a class, `f(name, module)`, or several.
    inputs : keep what the modules are given, too.
    replace : {name: function of the output}; see `Record.replace`.

    The model itself has the name "". A module that is called again (in a loop, or because it
    stands in two places) is "encoder.0", "encoder.0#2", ...; counting goes on until `clear()`,
    which a training loop should call at each step. `delta` is that of the last backward pass. A
    module that hands on its input itself (`Identity`, `Dropout` in eval mode) has that tensor's
    delta. Functions called in a `forward` (`F.relu`) have no module and are not seen.

    Nothing is left behind: weights, modes and buffers are not touched, no random number is
    drawn, training is bitwise the same, and all hooks go when the block ends, however it ends.

    A step of `fathom.compile` (and of `fit`) inside the block runs as a plan of its own, with
    what is recorded as further results: the same up to rounding, and bitwise without native
    code. With `replace` it runs as it is.

    >>> import fathom
    >>> from fathom import nn
    >>> model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU())
    >>> model[0].weight.data[...] = [[1.0, 2.0]]
    >>> with record(model) as seen:
    ...     model(fathom.tensor([[1.0, 1.0]])).sum().backward()
    >>> list(seen)
    ['0', '1', '']
    >>> seen["0"].output, seen["0"].delta
    (array([[3.]], dtype=float32), array([[1.]], dtype=float32))
    >>> with record(model, replace={"0": lambda z: -z}):
    ...     model(fathom.tensor([[1.0, 1.0]])).item()
    0.0
    """
    seen = Record(model, only, inputs)
    for name, function in (replace or {}).items():
        seen.replace(name, function)
    try:
        seen._open()
        yield seen
    finally:
        seen._close()
