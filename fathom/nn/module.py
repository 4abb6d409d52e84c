"""`Module`: a tree of named parameters, buffers and sub-modules with a `forward`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import DTypeLike

from fathom.engine.errors import ArgumentError, DtypeError, FathomError, ShapeError, suggest
from fathom.engine.modes import is_grad_enabled
from fathom.engine.primitive import apply, linear
from fathom.engine.tensor import (
    Removable,
    Tensor,
    mark_written,
    share_cell,
    to_array,
)
from fathom.nn.parameter import Parameter

if TYPE_CHECKING:
    from fathom.engine.tape import Node
    from fathom.nn.summary import Summary
    from fathom.train.loop import TrainMethods
else:
    TrainMethods = object  # `fathom.train` attaches fit, evaluate and predict


class Module(TrainMethods):
    """Base of all layers and models. Subclasses set parameters and layers in `__init__`.

    >>> import fathom
    >>> from fathom import nn
    >>> class Double(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.scale = nn.Parameter([2.0])
    ...     def forward(self, x):
    ...         return x * self.scale
    >>> Double()(fathom.tensor([3.0]))
    tensor([6.], op=mul)
    """

    training: bool

    def __init__(self) -> None:
        put = object.__setattr__
        put(self, "_parameters", {})
        put(self, "_buffers", {})
        put(self, "_transient", set())
        put(self, "_modules", {})
        put(self, "_pre_hooks", [])
        put(self, "_hooks", [])
        put(self, "_backward_hooks", [])
        put(self, "training", True)

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _transient: set[str]  # buffers that are not saved
    _modules: dict[str, Module]
    _pre_hooks: list[Callable[..., Any]]
    _hooks: list[Callable[..., Any]]
    _backward_hooks: list[Callable[..., Any]]

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """What the module computes; subclasses say so."""
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        try:
            if not (self._pre_hooks or self._hooks or self._backward_hooks):
                return self.forward(*inputs, **keywords)
            return self._call_hooked(inputs, keywords)
        except FathomError as error:
            self._locate(error)
            raise

    def _call_hooked(self, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        for hook in list(self._pre_hooks):
            replaced = hook(self, inputs)
            if replaced is not None:
                inputs = replaced if isinstance(replaced, tuple) else (replaced,)
        backward = _BackwardHooks(self) if self._backward_hooks else None
        if backward is not None:
            inputs = backward.enter(inputs)
        output = self.forward(*inputs, **keywords)
        if backward is not None:
            output = backward.leave(output)
        for hook in list(self._hooks):
            replaced = hook(self, inputs, output)
            if replaced is not None:
                output = replaced
        return output

    def _locate(self, error: FathomError) -> None:
        """Add this module to the path of an error that travels up through it."""
        child = error.module
        if child is None:
            error.layer_kind = type(self).__name__
        elif child is not self:
            name = next((n for n, m in self.named_modules() if m is child), type(child).__name__)
            error.layers.append(name)
        error.module = self

    # -- registration -------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise FathomError(
                f"{type(self).__name__} sets {name!r} before Module.__init__ ran",
                fix="call super().__init__() first",
            )
        home = self._home_of(name, value)
        for registry in (self.__dict__, self._parameters, self._buffers, self._modules):
            if registry is not home:
                registry.pop(name, None)
        if home is self.__dict__:
            object.__setattr__(self, name, value)
        else:
            home[name] = value  # in its old place, if it had one

    def _home_of(self, name: str, value: Any) -> dict[str, Any]:
        """The registry in which an attribute of that name and value is kept."""
        if isinstance(value, Parameter):
            return self._parameters
        if isinstance(value, Module):
            return self._modules
        for registry in (self._parameters, self._buffers):
            if name in registry and (value is None or isinstance(value, Tensor)):
                if registry is self._parameters and value is not None:
                    raise ArgumentError(
                        f"{type(self).__name__}.{name} is a parameter; received a plain tensor",
                        fix="wrap it: nn.Parameter(tensor)",
                    )
                return registry
        return self.__dict__

    def __getattr__(self, name: str) -> Any:
        for registry in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(registry, {})
            if name in found:
                return found[name]
        own = self.__dict__
        known = [n for kind in ("_parameters", "_buffers", "_modules") for n in own.get(kind, ())]
        hint = f" ({suggest(name, known)})" if known else ""
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{hint}")

    def __delattr__(self, name: str) -> None:
        for registry in (self._parameters, self._buffers, self._modules):
            if name in registry:
                del registry[name]
                return
        object.__delattr__(self, name)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Own a parameter under a name; None reserves the name."""
        _check_name(name, "parameter", parameter, Parameter)
        self.__dict__.pop(name, None)
        self._parameters[name] = parameter

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Own a tensor that is saved (if persistent) but not trained."""
        _check_name(name, "buffer", tensor, Tensor)
        self.__dict__.pop(name, None)
        self._buffers[name] = tensor
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name: str, module: Module) -> None:
        """Own a sub-module under a name."""
        _check_name(name, "module", module, Module)
        self._modules[name] = module

    # -- the tree -----------------------------------------------------------------------

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, depth first, with dotted names."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            dot = name + "." if name else ""
            stack.extend((dot + n, m) for n, m in reversed(module._modules.items()))

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return iter(self._modules.items())

    def children(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def _members(self, registry: str) -> Iterator[tuple[str, Any]]:
        for prefix, module in self.named_modules():
            for name, member in getattr(module, registry).items():
                if member is not None:
                    yield (f"{prefix}.{name}" if prefix else name), member

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name; shared ones under their first."""
        seen: set[int] = set()
        for name, parameter in self._members("_parameters"):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        return self._members("_buffers")

    def buffers(self) -> Iterator[Tensor]:
        return (buffer for _, buffer in self.named_buffers())

    def get_submodule(self, path: str) -> Module:
        """The module under a dotted name."""
        found = dict(self.named_modules())
        if path not in found:
            raise ArgumentError(f"no module {path!r}", fix=suggest(path, filter(None, found)))
        return found[path]

    # -- modes --------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Training behaviour (dropout drops, norms learn their statistics)."""
        for module in self.modules():
            object.__setattr__(module, "training", bool(mode))
        return self

    def eval(self) -> Self:
        """Inference behaviour."""
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            if set_to_none or parameter.grad is None:
                parameter.grad = None
            else:
                parameter.grad = Tensor(np.zeros_like(parameter.data))

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call `function` on every module below and then on this one."""
        for module in reversed(list(self.modules())):
            function(module)
        return self

    def to(self, dtype: DTypeLike) -> Self:
        """Parameters and buffers of floats in another float type, in place."""
        for _, tensor in (*self.named_parameters(), *self.named_buffers()):
            if tensor.dtype.kind == "f":
                tensor.data = tensor.data.astype(dtype)
                tensor.grad = None
        return self

    def float(self) -> Self:
        return self.to(np.float32)

    def double(self) -> Self:
        return self.to(np.float64)

    # -- hooks --------------------------------------------------------------------------

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> Removable:
        """`hook(module, inputs)` before `forward`; what it returns replaces the inputs."""
        return Removable(self._pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[..., Any]) -> Removable:
        """`hook(module, inputs, output)` after `forward`; what it returns replaces the output."""
        return Removable(self._hooks, hook)

    def register_full_backward_hook(self, hook: Callable[..., Any]) -> Removable:
        """`hook(module, grad_input, grad_output)` when both are known; may replace grad_input."""
        return Removable(self._backward_hooks, hook)

    # -- state --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and saved buffers by dotted name; they share the model's memory."""
        state = {name: p.detach() for name, p in self._members("_parameters")}
        for prefix, module in self.named_modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and name not in module._transient:
                    state[f"{prefix}.{name}" if prefix else name] = buffer.detach()
        return state

    def load_state_dict(
        self, state: Mapping[str, Any], strict: bool = True
    ) -> tuple[list[str], list[str]]:
        """Copy values in by name. Returns the missing and the unexpected names.

        With `strict`, either kind is an `ArgumentError`; a wrong shape always is a `ShapeError`.
        Nothing is changed unless everything fits.
        """
        own: dict[str, Tensor] = dict(self._members("_parameters"))
        own.update(self._members("_buffers"))
        saved = self.state_dict()
        missing = [name for name in saved if name not in state]
        unexpected = [name for name in state if name not in saved]
        if strict and (missing or unexpected):
            parts = [f"missing: {', '.join(missing)}"] if missing else []
            parts += [f"unexpected: {', '.join(unexpected)}"] if unexpected else []
            raise ArgumentError(
                f"the state does not belong to this {type(self).__name__}: " + "; ".join(parts),
                fix="build the model with the same layers, or pass strict=False",
            )
        arrays = {}
        for name in filter(state.__contains__, saved):
            try:
                array = arrays[name] = to_array(state[name])
            except DtypeError as error:
                raise DtypeError(f"{name}: the state holds no numbers: {error.message}") from None
            if array.shape != own[name].shape:
                raise ShapeError(
                    f"{name}: the state has shape {array.shape}, the model {own[name].shape}",
                    fix="build the model with the same sizes",
                )
        for name, array in arrays.items():
            own[name].data[...] = array
            mark_written(own[name])
        return missing, unexpected

    # -- looking at it ------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain values; printed, and stored with the model."""
        return {}

    def extra_repr(self) -> str:
        return ", ".join(f"{key}={value!r}" for key, value in self.config().items())

    def __repr__(self) -> str:
        if not self._modules:
            return f"{type(self).__name__}({self.extra_repr()})"
        lines = [
            f"  ({name}): " + repr(module).replace("\n", "\n  ")
            for name, module in self._modules.items()
        ]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])

    def summary(self, input_shape: Any = None, batch_size: int = 1) -> Summary:
        """Layers with output shapes, parameters, multiply-adds and bytes.

        `input_shape` is the shape of one sample, without the batch axis; it is worked out
        from the first layer where that says how many features it takes.
        """
        from fathom.nn.summary import summarize

        return summarize(self, input_shape, batch_size)


def _check_name(name: Any, kind: str, value: Any, wanted: type) -> None:
    if not isinstance(name, str) or not name or "." in name:
        raise ArgumentError(f"a {kind} name must not be empty or hold a dot; received {name!r}")
    if not isinstance(value, wanted) and not (value is None and kind != "module"):
        raise ArgumentError(
            f"{kind} {name!r} must be a {wanted.__name__}; received a {type(value).__name__}"
        )


_gate = linear(
    "gate",
    lambda *xs: xs,
    (lambda g, out, *xs, index=0: g[index],),
    shape=lambda *xs: tuple(x.shape for x in xs),
    fresh=False,
    joint=True,
)


class _BackwardHooks:
    """A module's backward hooks: a gate of identities before its forward and one behind.

    The one behind notes the gradients of the outputs; the one before opens when those of all
    inputs are there, and then the hooks run.
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        self.grad_output: tuple[Any, ...] = ()
        self.unwatched: tuple[Any, ...] | None = None  # grad_input if no input wants one

    def enter(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        passed, places, node = _through_gate(inputs)
        if node is None:
            self.unwatched = (None,) * len(inputs)
            return inputs

        def fire(gradients: tuple[Any, ...]) -> tuple[Any, ...]:
            full = self.run(_spread(gradients, places, len(inputs)))
            return tuple(full[i] for i in places)

        node.register_prehook(fire)
        return passed

    def leave(self, output: Any) -> Any:
        outputs = output if isinstance(output, tuple) else (output,)
        passed, places, node = _through_gate(outputs)
        if node is None:
            return output

        def note(gradients: tuple[Any, ...]) -> None:
            self.grad_output = _spread(gradients, places, len(outputs))
            if self.unwatched is not None:
                self.run(self.unwatched)

        node.register_prehook(note)
        return passed if isinstance(output, tuple) else passed[0]

    def run(self, grad_input: tuple[Any, ...]) -> tuple[Any, ...]:
        shapes = [None if g is None else tuple(g.shape) for g in grad_input]
        for hook in list(self.module._backward_hooks):
            replaced = hook(self.module, grad_input, self.grad_output)
            if replaced is None:
                continue
            grad_input = replaced if isinstance(replaced, tuple) else (replaced,)
            found = [None if g is None else tuple(g.shape) for g in grad_input]
            if len(found) != len(shapes) or any(
                f != s for f, s in zip(found, shapes, strict=True) if f is not None
            ):
                raise ShapeError(
                    f"a backward hook returned gradients of shapes {found} in place of {shapes}"
                )
        return grad_input


def _through_gate(values: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[int], Node | None]:
    """The values with the differentiable ones passed through a gate, their places, its node."""
    places = [i for i, x in enumerate(values) if isinstance(x, Tensor) and x.requires_grad]
    if not places or not is_grad_enabled():
        return values, places, None
    passed = list(values)
    for i, out in zip(places, apply(_gate, *(values[i] for i in places)), strict=True):
        out.cell = share_cell(values[i])
        passed[i] = out
    return tuple(passed), places, passed[places[0]].node


def _spread(values: tuple[Any, ...], places: list[int], count: int) -> tuple[Any, ...]:
    found = dict(zip(places, values, strict=True))
    return tuple(found.get(i) for i in range(count))
