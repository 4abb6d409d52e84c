"""The primitive record, its three declaration forms, and `apply`, which runs one.

Everything about an operation stands in one place: how to compute it, what shape comes out,
what its gradient rule needs to keep, and the rules themselves. Rules are written in the
library's own ops; called on arrays they compute, called on tensors they are recorded, and so
second derivatives, Hessian-vector products and meta-learning need nothing more.

A rule sees `(out, *ins)`: the output and the inputs, as far as `saves` asked for them. An
input that was not saved arrives as a `Spec` (shape and dtype only).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from fathom.engine.errors import (
    AxisError,
    DtypeError,
    FathomError,
    FreedGraphWarning,
    OuterBroadcastWarning,
    ShapeError,
    mark_axes,
)
from fathom.engine.modes import MODE
from fathom.engine.tape import Node, scale
from fathom.engine.tensor import (
    Array,
    Cell,
    Tensor,
    clock,
    describe_site,
    recorded,
    share_cell,
    to_array,
    user_site,
    warn_once,
)

Rule = Callable[..., Any]
Partial = Callable[..., Any] | float  # a rule, or a constant slope
F = TypeVar("F", bound=Callable[..., Any])

TABLE: dict[str, Primitive] = {}  # every primitive by name
_FLOAT64, _FLOAT16 = np.dtype(np.float64), np.dtype(np.float16)


@dataclass(slots=True, eq=False)
class Primitive:
    """All that is known of one operation.

    Attributes
    ----------
    form : "elementwise", "linear" or "general".
    saves : "" nothing, "in" all inputs, "other" the inputs beside the differentiated one,
        "out" the output; several words may be combined ("in out").
    rules : for each input the partial derivative (elementwise), the transpose (linear) or the
        vjp (general); None where there is no gradient.
    jvp : for each input the tangent rule of the general form.
    shape : shape rule `(*specs, **params) -> shape`; raises `ShapeError`.
    view : the output may share memory with the first input.
    fresh : the rules never return memory that somebody else holds.
    joint : linear in all inputs together (a concatenation), not in each (a product).
    casts : the dtype that comes out is its own business.
    listed : stands in the table; a user's formulas do not.
    domain : per input, the interval in which it may be tested (open ends allowed).
    cost : of an elementwise operation, in additions per element; of a contraction, a function
        of the input shapes that gives its multiply-adds.
    """

    name: str
    form: str
    forward: Callable[..., Any]
    rules: tuple[Any, ...] = ()
    saves: str = ""
    jvp: tuple[Rule | None, ...] = ()
    shape: Callable[..., tuple[int, ...]] | None = None
    batch: Any = None
    view: bool = False
    fresh: bool = True
    joint: bool = False
    casts: bool = False
    domain: tuple[tuple[float, float], ...] = ()
    cost: float | Callable[..., float] = 1.0
    function: Callable[..., Any] | None = None
    listed: bool = True
    save_in: bool = field(init=False)
    save_other: bool = field(init=False)
    save_out: bool = field(init=False)
    unary: bool = False  # elementwise in one input: the backward pass has a short way for it

    def __post_init__(self) -> None:
        words = set(self.saves.split())
        if not words <= {"in", "other", "out"}:
            raise ValueError(f"{self.name}: unknown saves {self.saves!r}")
        self.save_in, self.save_other, self.save_out = (
            word in words for word in ("in", "other", "out")
        )
        if self.listed:
            if self.name in TABLE:
                raise ValueError(f"primitive {self.name!r} is declared twice")
            TABLE[self.name] = self

    def __call__(self, *args: Any, **params: Any) -> Any:
        return apply(self, *args, **params)

    def __repr__(self) -> str:
        return f"<{self.form} primitive {self.name}>"

    def rule(self, i: int) -> Any:
        """The rule for input i; operations with any number of inputs share their last one."""
        return self.rules[min(i, len(self.rules) - 1)] if self.rules else None

    def pullback(self, node: Node, gradient: Any, out: Any, ins: Sequence[Any]) -> list[Any]:
        """The gradients of the inputs that want one, from the gradient of the output."""
        if self.form == "elementwise":
            return [
                None if parent is None else scale(gradient, self.rules[i], out, ins)
                for i, parent in enumerate(node.parents)
            ]
        params = node.params
        if node.extra is not None:
            params = {**params, "extra": node.extra}
        results: list[Any] = []
        for i, parent in enumerate(node.parents):
            if parent is None:
                results.append(None)
            elif len(self.rules) < len(node.parents):
                results.append(self.rule(i)(gradient, out, *ins, index=i, **params))
            else:
                results.append(self.rules[i](gradient, out, *ins, **params))
        return results


# -- the three declaration forms ---------------------------------------------------------------


def elementwise(
    forward: Callable[..., Any],
    partials: Sequence[Partial] = (),
    saves: str = "",
    *,
    domain: Sequence[tuple[float, float]] = (),
    cost: float = 1.0,
    name: str | None = None,
) -> Callable[[F], F]:
    """Declare an elementwise operation: decorate its (documented, bodiless) function.

    `partials` gives the derivative with respect to each input, as `(out, *ins) -> slope` or as
    a constant. Without partials the result has no gradient (comparisons).
    """

    def declare(function: F) -> F:
        primitive = Primitive(
            name or function.__name__.rstrip("_"),
            "elementwise",
            forward,
            tuple(partials),
            saves,
            shape=broadcast_shape,
            domain=tuple(domain),
            cost=cost,
        )
        return _public(primitive, function)

    return declare


def linear(
    name: str,
    forward: Callable[..., Any],
    transpose: Sequence[Rule | None],
    saves: str = "",
    **fields: Any,
) -> Primitive:
    """Declare an operation linear in each of its inputs by its transposes.

    A transpose is `(g, out, *ins, **params) -> gradient of that input`.
    """
    return Primitive(name, "linear", forward, tuple(transpose), saves, **fields)


def general(
    name: str,
    forward: Callable[..., Any],
    vjp: Sequence[Rule | None] = (),
    jvp: Sequence[Rule | None] = (),
    saves: str = "",
    **fields: Any,
) -> Primitive:
    """Declare any other operation by vjp `(g, out, *ins, **params)` and jvp `(t, out, *ins)`."""
    return Primitive(name, "general", forward, tuple(vjp), saves, tuple(jvp), **fields)


def _public(primitive: Primitive, function: F) -> F:
    """The function users call: the documented signature, run by `apply`."""
    import functools
    import inspect

    arity = len(inspect.signature(function).parameters)
    primitive.unary = arity == 1
    none: dict[str, Any] = {}  # elementwise operations have no parameters: one dictionary for all
    call: Callable[..., Any]
    if arity == 1:

        def call(x: Any) -> Any:
            mode = MODE.get()
            if mode.special is not None:
                return mode.special(primitive, (x,), none, mode)
            if isinstance(x, Tensor):
                return record_unary(primitive, x, none, mode.grad)
            return record(primitive, (x,), none, mode.grad)

    elif arity == 2:

        def call(x: Any, y: Any) -> Any:
            mode = MODE.get()
            if mode.special is not None:
                return mode.special(primitive, (x, y), none, mode)
            return record(primitive, (x, y), none, mode.grad)

    else:

        def call(*args: Any) -> Any:
            return apply(primitive, *args)

    functools.update_wrapper(call, function)
    primitive.function = call
    return call  # type: ignore[return-value]


# -- apply ---------------------------------------------------------------------------------------


def apply(primitive: Primitive, *args: Any, **params: Any) -> Any:
    """Run a primitive: on arrays it computes, on tensors it computes and records."""
    mode = MODE.get()
    if mode.special is not None:
        return mode.special(primitive, args, params, mode)
    return record(primitive, args, params, mode.grad)


def record(primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any], grad: bool) -> Any:
    """Level 0 of `apply`: compute with NumPy, and make a node if a gradient may be asked."""
    values = []
    tensors = needs_grad = False
    for a in args:
        if isinstance(a, Tensor):
            tensors = True
            if a.requires_grad:
                needs_grad = True
            values.append(a.data)
        else:
            values.append(a)
    try:
        out = primitive.forward(*values, **params)
    except FathomError:
        raise
    except (ValueError, TypeError, IndexError) as error:
        out = retry(primitive, values, params, error)
    if out.__class__ is not np.ndarray:
        if out.__class__ is tuple:
            return _several(primitive, args, params, grad and needs_grad, tensors, out, values)
        out = np.asarray(out)
    if (out.dtype is _FLOAT64 or out.dtype is _FLOAT16) and not primitive.casts:
        out = settle(out, values)
    if out.nbytes > LARGE and primitive.form == "elementwise":
        check_broadcast(primitive, out, values)
    if not tensors and _plain(values):
        return out
    result = Tensor.__new__(Tensor)
    result.data = out
    if needs_grad and grad and primitive.rules and out.dtype.kind == "f":
        parents = edges(args)
        for p in parents:
            if p.__class__ is tuple and p[0].saved is None:
                joins_freed(primitive, p[0])
        node = node_of(primitive, params, parents, out, out.shape, out.dtype)
        node.saved = kept(primitive, args, parents)
        result.requires_grad = True
        result.edge = (node, 0)
        result.cell = node.cells
    if primitive.view and isinstance(args[0], Tensor):
        result.cell = share_cell(args[0])
    return result


def record_unary(primitive: Primitive, x: Tensor, params: dict[str, Any], grad: bool) -> Tensor:
    """`record` for an elementwise operation of one tensor: most nodes, so the short way."""
    data = x.data
    try:
        out = primitive.forward(data)
    except FathomError:
        raise
    except (ValueError, TypeError, IndexError) as error:
        out = retry(primitive, [data], params, error)
    if out.__class__ is not np.ndarray:
        out = np.asarray(out)
    if out.dtype is not data.dtype:
        out = settle(out, (data,))
    result = Tensor.__new__(Tensor)
    result.data = out
    if x.requires_grad and grad and primitive.rules:
        edge = x.edge
        if edge is not None and edge[0].saved is None:
            joins_freed(primitive, edge[0])
        node = node_of(primitive, params, (edge or x,), out, out.shape, out.dtype)
        node.saved = (x,) if primitive.save_in else _NOTHING
        result.requires_grad = True
        result.edge = (node, 0)
        result.cell = node.cells
    return result


_NOTHING = (None,)


def node_of(
    primitive: Primitive, params: dict[str, Any], parents: tuple[Any, ...], out: Any, shape: Any,
    dtype: Any,
) -> Node:  # fmt: skip
    """The record of a call; what it saved of its inputs is set by the caller."""
    node = Node.__new__(Node)
    node.primitive = primitive
    node.params = params
    node.parents = parents
    if primitive.save_out:
        node.out, node.cells = out, Cell()
    node.shape = shape
    node.dtype = dtype
    node.sequence = next(clock)
    node.site = user_site(4)
    return node


def edges(args: tuple[Any, ...], level: int = 0) -> tuple[Any, ...]:
    """For each argument the edge its gradient takes; None where it wants none."""
    return tuple(
        [
            (a.edge or a)
            if isinstance(a, Tensor) and a.requires_grad and a.level == level
            else None
            for a in args
        ]
    )


def kept(primitive: Primitive, args: tuple[Any, ...], parents: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments the rule asked for, None in place of the others."""
    if primitive.save_in:
        return args
    if primitive.save_other:  # needed by whoever else wants a gradient
        wanting = len([p for p in parents if p is not None])
        return tuple(
            [a if wanting > (p is not None) else None for a, p in zip(args, parents, strict=True)]
        )
    return (None,) * len(args)


class Extra(tuple[Any, ...]):
    """What a forward pass hands to its own rule besides the output: `return out, Extra(...)`."""


def _several(
    primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any], needs_grad: bool,
    tensors: bool, outs: tuple[Any, ...], values: list[Any],
) -> Any:  # fmt: skip
    """Finish a primitive that returned several outputs, or one and an `Extra`."""
    extra = outs[-1] if isinstance(outs[-1], Extra) else None
    if extra is not None:
        outs = outs[:-1]
    arrays = tuple(settle(np.asarray(o), values) for o in outs)
    single = extra is not None and len(arrays) == 1
    if not tensors and _plain(values):
        return arrays[0] if single else arrays
    node = None
    if needs_grad and primitive.rules:
        shape = arrays[0].shape if single else tuple(a.shape for a in arrays)
        dtype = arrays[0].dtype if single else tuple(a.dtype for a in arrays)
        parents, out = edges(args), arrays[0] if single else arrays
        node = node_of(primitive, params, parents, out, shape, dtype)
        node.saved = kept(primitive, args, parents)
        node.extra = extra
    results = []
    for i, array in enumerate(arrays):
        if node is None or array.dtype.kind != "f":
            result = Tensor(array)
        else:
            result = recorded(array, (node, i))
            if primitive.save_out:
                result.cell = node.cells
        if primitive.view:
            result.cell = share_cell(args[0])
        results.append(result)
    return results[0] if single else tuple(results)


def _plain(values: list[Any]) -> bool:
    """Whether a call had arrays but no tensors: then it is plain NumPy and stays so."""
    return any(isinstance(v, (np.ndarray, np.generic)) for v in values)


def settle(out: Array, values: Sequence[Any]) -> Array:
    """No silent upcast: float64 comes out only where float64 went in.

    As in PyTorch, arrays with axes decide before those without, and whole numbers take the
    float type of their partner (float32 alone).
    """
    if out.dtype is not _FLOAT64 and out.dtype is not _FLOAT16:
        return out
    arrays = [v for v in values if isinstance(v, (np.ndarray, np.generic)) and v.dtype.kind == "f"]
    deciding = [v for v in arrays if v.ndim] or arrays
    if any(v.dtype is out.dtype for v in deciding):
        return out
    kinds = [v.dtype for v in deciding]
    return out.astype(np.result_type(*kinds) if kinds else np.float32)


# -- likely mistakes -------------------------------------------------------------------------------

LARGE, OUTER = 1 << 26, 64  # bytes, and times larger than both inputs


def check_broadcast(primitive: Primitive, out: Array, values: Sequence[Any]) -> None:
    """Warn of a large result made of small inputs: (n, 1) - (n,) is (n, n)."""
    if len(values) > 1 and all(np.size(v) * OUTER <= out.size for v in values):
        shapes = " and ".join(str(np.shape(v)) for v in values)
        warn_once(
            OuterBroadcastWarning,
            f"{primitive.name} of {shapes} gives {out.shape}, {out.nbytes >> 20} MB: an outer "
            "product by broadcasting; if that is not meant, reshape the inputs to one shape",
        )


def joins_freed(primitive: Primitive, node: Node) -> None:
    """Warn of `total += loss` after `loss.backward()`: a graph that grows and is of no use."""
    warn_once(
        FreedGraphWarning,
        f"{primitive.name} is recorded on the result of {node.primitive.name} "
        f"({describe_site(node.site)}), whose graph backward has freed; for a running total use "
        "loss.item() or loss.detach(), for another gradient backward(retain_graph=True)",
    )


# -- when something does not fit -------------------------------------------------------------------


def retry(primitive: Primitive, values: list[Any], params: dict[str, Any], error: Exception) -> Any:
    """Second chance with lists turned into arrays, else an error that teaches."""
    arrays = [to_array(v) if isinstance(v, (list, tuple)) else v for v in values]
    if any(a is not v for a, v in zip(arrays, values, strict=True)):
        return primitive.forward(*arrays, **params)
    raise explain(primitive, values, params, error) from None


def explain(
    primitive: Primitive, values: list[Any], params: dict[str, Any], error: Exception
) -> FathomError:
    """The error of a primitive in our words: the shape rule's if it finds fault, else NumPy's."""
    for v in values:
        if not isinstance(v, (np.ndarray, np.generic, int, float, bool, Tensor)) and v is not None:
            return DtypeError(
                f"{primitive.name}: an argument is a {type(v).__name__}, not a tensor or number"
            )
    if primitive.shape is not None:
        try:
            primitive.shape(*values, **params)
        except FathomError as teaching:
            if not teaching.message.startswith(primitive.name):
                teaching.message = f"{primitive.name}: {teaching.message}"
            return teaching
        except Exception as unexplained:  # the rule itself could not read the arguments
            error = error or unexplained
    shapes = ", ".join(str(np.shape(v)) for v in values)
    options = "".join(f", {k}={v!r}" for k, v in params.items())
    kinds = {ValueError: ShapeError, IndexError: AxisError}
    kind = next((k for cause, k in kinds.items() if isinstance(error, cause)), DtypeError)
    return kind(f"{primitive.name}: {error} (arguments {shapes}{options})")


def broadcast_shape(*values: Any, **params: Any) -> tuple[int, ...]:
    """The common shape of elementwise arguments; an error marks the axes that clash."""
    shapes = [np.shape(v) if not hasattr(v, "shape") else v.shape for v in values]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        pass
    ndim = max(map(len, shapes))
    padded = [(1,) * (ndim - len(s)) + tuple(s) for s in shapes]
    clashing = [i for i in range(ndim) if len({s[i] for s in padded if s[i] != 1}) > 1]
    marked = " and ".join(
        mark_axes(s, [i - (ndim - len(s)) for i in clashing if i >= ndim - len(s)]) for s in shapes
    )
    a, b = shapes[0], shapes[-1]
    fix = "axes must be equal or 1, compared from the right"
    if sorted(a) == sorted(b):
        fix += "; is one of them transposed?"
    elif len(a) == len(b) + 1 and a[0] == b[0]:
        fix += f"; to use one value per row, reshape the second to {(*b, 1)}"
    raise ShapeError(f"shapes {marked} do not broadcast together", fix=fix)
