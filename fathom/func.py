"""Transforms of functions, with the names of `torch.func`: each takes a function, gives one.

They nest freely: `hessian` is `jacfwd(jacrev(f))`, a per-sample gradient is `vmap(grad(f))`.
Arguments and results may be tensors or nested tuples, lists and dictionaries of tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from fathom.engine.backward import sweep
from fathom.engine.batching import Batched
from fathom.engine.errors import ArgumentError, DtypeError, ShapeError
from fathom.engine.forward import Dual, tangent_of
from fathom.engine.levels import Taped, new_level, reenter, snapshot, taped_input
from fathom.engine.tensor import Tensor
from fathom.ops import broadcast_to, permute, reshape, stack

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "hvp",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "per_sample_grad",
    "stack_module_state",
    "value_and_grad",
    "vjp",
    "vmap",
]

Function = Callable[..., Any]


# -- nested structures -------------------------------------------------------------------------


def tree_map(function: Function, tree: Any, *others: Any) -> Any:
    """Apply a function to every leaf of nested tuples, lists and dictionaries."""
    if isinstance(tree, dict):
        return {k: tree_map(function, tree[k], *(o[k] for o in others)) for k in tree}
    if isinstance(tree, (list, tuple)):
        parts = [tree_map(function, *row) for row in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return function(tree, *others)


def leaves(tree: Any) -> list[Any]:
    """The leaves of nested tuples, lists and dictionaries, in order."""
    found: list[Any] = []
    tree_map(found.append, tree)
    return found


def as_leaf(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(x)


def _unwrap(tree: Any, level: int) -> Any:
    """Results without the wrapping of a level that ends."""
    return tree_map(lambda x: x.data if isinstance(x, Tensor) and x.level == level else x, tree)


# -- reverse mode --------------------------------------------------------------------------------


def _taped(tree: Any, level: int) -> Any:
    """The leaves as recorded tensors of a new tape."""

    def wrap(x: Any) -> Taped:
        x = as_leaf(x)
        if x.dtype.kind != "f":
            raise DtypeError(f"a gradient needs floats; the argument holds {x.dtype}")
        return taped_input(x, level)

    return tree_map(wrap, tree)


def _pull(outputs: Sequence[Any], cotangents: Sequence[Any], inputs: Any, retain: bool) -> Any:
    """The gradients of the inputs, zeros where nothing depends on them."""
    live = [
        (o, c) for o, c in zip(outputs, cotangents, strict=True)
        if isinstance(o, Taped) and o.requires_grad
    ]  # fmt: skip
    wanted = leaves(inputs)
    found: list[Any] = [None] * len(wanted)
    if live:
        roots, seeds = zip(*live, strict=True)
        found = sweep(roots, seeds, retain, False, wanted).found
    result = iter(found)
    given: set[int] = set()

    def out(x: Any) -> Tensor:
        gradient = next(result)
        if gradient is None:
            return x.data * 0
        gradient = as_leaf(gradient)
        if type(gradient) is Tensor and not gradient.requires_grad:
            memory = gradient.data
            fixed = isinstance(memory, np.ndarray) and not memory.flags.writeable
            if id(gradient) in given or fixed:
                gradient = gradient.clone()  # each may be edited without changing another
            given.add(id(gradient))
        return gradient

    return tree_map(out, inputs)


def _pick(args: tuple[Any, ...], argnums: int | Sequence[int]) -> list[int]:
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)
    for n in numbers:
        if not -len(args) <= n < len(args):
            raise ArgumentError(f"argnums names argument {n}; the function got {len(args)}")
    return [n % len(args) for n in numbers]


def grad_and_value(
    function: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Function:
    """Like `grad`, returning (gradient, value) as `torch.func` does."""

    def transformed(*args: Any, **keywords: Any) -> Any:
        numbers = _pick(args, argnums)
        with new_level() as level:
            inputs = {n: _taped(args[n], level) for n in numbers}
            given = tree_map(snapshot, inputs)
            out = function(*(given.get(i, a) for i, a in enumerate(args)), **keywords)
            value, aux = out if has_aux else (out, None)
            if not isinstance(value, Tensor) or value.shape != ():
                shape = value.shape if isinstance(value, Tensor) else type(value).__name__
                raise ShapeError(
                    f"grad needs a function that returns a single number; got {shape}",
                    fix="reduce the result (.mean(), .sum()), or use jacrev",
                )
            gradients = _pull([value], [None], [inputs[n] for n in numbers], False)
        result = gradients[0] if isinstance(argnums, int) else tuple(gradients)
        value = _unwrap(value, level)
        return result, (value, _unwrap(aux, level)) if has_aux else value

    return transformed


def value_and_grad(
    function: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Function:
    """Like `grad`, returning (value, gradient)."""
    both = grad_and_value(function, argnums, has_aux)
    return lambda *args, **keywords: both(*args, **keywords)[::-1]


def grad(function: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The gradient of a function that returns a single number.

    `argnums` says with respect to which arguments; `has_aux` lets the function return
    (value, anything else), and the transform (gradient, anything else).

    >>> import fathom
    >>> grad(lambda x: (x * x).sum())(fathom.tensor([1.0, 2.0]))
    tensor([2., 4.])
    """
    both = grad_and_value(function, argnums, has_aux)

    def transformed(*args: Any, **keywords: Any) -> Any:
        gradient, value = both(*args, **keywords)
        return (gradient, value[1]) if has_aux else gradient

    return transformed


def vjp(function: Function, *primals: Any, has_aux: bool = False) -> Any:
    """(output, pull): `pull(cotangent)` gives one gradient for each primal.

    `pull` may be called often. Raises `ShapeError` if the cotangent's shape is not the output's.
    """
    with new_level() as level:
        inputs = _taped(primals, level)
        out = function(*tree_map(snapshot, inputs))  # it may edit what it is given
        out, aux = out if has_aux else (out, None)
    outputs = leaves(out)

    def pull(cotangent: Any) -> tuple[Any, ...]:
        with reenter(level):
            return _pull(outputs, leaves(cotangent), inputs, True)

    value = _unwrap(out, level)
    return (value, pull, _unwrap(aux, level)) if has_aux else (value, pull)


# -- forward mode --------------------------------------------------------------------------------


def jvp(function: Function, primals: Any, tangents: Any, has_aux: bool = False) -> Any:
    """(output, its derivative in the direction of `tangents`), in one forward pass.

    >>> import fathom
    >>> jvp(fathom.exp, (fathom.tensor(0.0),), (fathom.tensor(2.0),))
    (tensor(1.), tensor(2.))
    """
    with new_level() as level:

        def wrap(x: Any, t: Any) -> Dual:
            x, t = as_leaf(x), as_leaf(t)
            if x.shape != t.shape:
                raise ShapeError(f"jvp: primal {x.shape} and tangent {t.shape} differ in shape")
            return Dual(x, t, level)

        out = function(*tree_map(wrap, tuple(primals), tuple(tangents)))
        out, aux = out if has_aux else (out, None)
        derivative = tree_map(lambda y: tangent_of(y, level), out)
    value = _unwrap(out, level)
    return (value, derivative, _unwrap(aux, level)) if has_aux else (value, derivative)


def linearize(function: Function, *primals: Any) -> Any:
    """(output, push): `push(*tangents)` is the derivative at this point, a linear map.

    The function runs once; each push costs two backward passes over what was recorded.
    """
    value, pull = vjp(function, *primals)
    ones = tree_map(lambda y: as_leaf(y) * 0 + 1, value)
    with new_level() as level:  # the pullback is linear in its cotangent: transpose it
        cotangent = _taped(ones, level)
        pulled = pull(cotangent)

    def push(*tangents: Any) -> Any:
        with reenter(level):
            return _pull(leaves(pulled), leaves(tangents), cotangent, True)

    return value, push


# -- vmap ----------------------------------------------------------------------------------------


def vmap(
    function: Function, in_dims: Any = 0, out_dims: Any = 0, chunk_size: int | None = None
) -> Function:
    """`function` over a batch: written for one row, run on all rows at once.

    `in_dims` names the batch axis of each argument (None: the same for every row), `out_dims`
    where it goes in each result.

    >>> import fathom
    >>> vmap(fathom.matmul, in_dims=(0, None))(fathom.ones(5, 3), fathom.ones(3, 2)).shape
    (5, 2)
    """

    def transformed(*args: Any, **keywords: Any) -> Any:
        several = isinstance(in_dims, (tuple, list))
        dims = tuple(in_dims) if several else (in_dims,) * len(args)
        if len(dims) != len(args):
            raise ArgumentError(f"vmap: in_dims has {len(dims)} entries for {len(args)} arguments")
        dims = tuple(_match_dims(d, a) for d, a in zip(dims, args, strict=True))
        size = _batch_size(dims, args)
        if chunk_size is not None and size > chunk_size:
            return _in_chunks(function, args, dims, out_dims, size, chunk_size, keywords)
        with new_level() as level:

            def wrap(x: Any, dim: Any) -> Any:
                return x if dim is None else Batched(_front(as_leaf(x), dim), level)

            out = function(*(tree_map(wrap, a, d) for a, d in zip(args, dims, strict=True)),
                           **keywords)  # fmt: skip
            places = _match_dims(out_dims, out) if not isinstance(out_dims, tuple) else out_dims
            return tree_map(lambda y, d: _leave(y, d, level, size), out, places)

    return transformed


def _match_dims(dim: Any, tree: Any) -> Any:
    """One axis for a whole structure, or a structure of axes."""
    return tree_map(lambda _: dim, tree) if dim is None or isinstance(dim, int) else dim


def _batch_size(dims: Any, args: Any) -> int:
    sizes: set[int] = set()

    def note(x: Any, dim: Any) -> None:
        if dim is not None:
            shape = np.shape(x) if not isinstance(x, Tensor) else x.shape
            if not -len(shape) <= dim < len(shape):
                raise ArgumentError(f"vmap: axis {dim} is out of range for shape {shape}")
            sizes.add(shape[dim])

    for a, d in zip(args, dims, strict=True):
        tree_map(note, a, d)
    if len(sizes) != 1:
        found = f"have sizes {sorted(sizes)}" if sizes else "are all None"
        raise ShapeError(f"vmap: the batch axes {found}; all must have one size")
    return sizes.pop()


def _front(x: Tensor, dim: int) -> Tensor:
    dim %= x.ndim
    return x if dim == 0 else permute(x, [dim, *(i for i in range(x.ndim) if i != dim)])


def _leave(y: Any, dim: int | None, level: int, size: int) -> Tensor:
    """A result with its batch axis at `dim`; one that no row changed is repeated."""
    if isinstance(y, Batched) and y.level == level:
        data = y.data
    else:
        y = as_leaf(y)
        if dim is None:
            return y
        data = broadcast_to(reshape(y, (1, *y.shape)), (size, *y.shape))
    if dim is None:
        raise ArgumentError("vmap: out_dims is None for a result that differs between rows")
    dim %= data.ndim
    if dim == 0:
        return data
    order = list(range(1, data.ndim))
    order.insert(dim, 0)
    return permute(data, order)


def _in_chunks(
    function: Function, args: Any, dims: Any, out_dims: Any, size: int, chunk: int, keywords: Any
) -> Any:
    from fathom.ops import concatenate

    def cut(x: Any, dim: Any, start: int) -> Any:
        return x if dim is None else _front(as_leaf(x), dim)[start : start + chunk]

    fronts = tuple(tree_map(lambda d: None if d is None else 0, d) for d in dims)
    parts = [
        vmap(function, fronts, 0)(
            *(tree_map(lambda x, d, s=start: cut(x, d, s), a, d)
              for a, d in zip(args, dims, strict=True)), **keywords)
        for start in range(0, size, chunk)
    ]  # fmt: skip
    joined = tree_map(lambda *ys: concatenate(ys, 0), parts[0], *parts[1:])
    places = _match_dims(out_dims, joined) if not isinstance(out_dims, tuple) else out_dims
    return tree_map(lambda y, d: permute(y, _order(y.ndim, d)) if d else y, joined, places)


def _order(ndim: int, dim: int) -> list[int]:
    order = list(range(1, ndim))
    order.insert(dim % ndim, 0)
    return order


# -- whole Jacobians -----------------------------------------------------------------------------


def _basis(x: Tensor) -> Tensor:
    """All unit vectors of a shape: (size, *shape)."""
    return Tensor(np.eye(x.size, dtype=x.dtype).reshape((x.size, *x.shape)))


def jacrev(function: Function, argnums: int | Sequence[int] = 0) -> Function:
    """The Jacobian by reverse mode: (*output shape, *input shape). Good for few outputs."""

    def transformed(*args: Any) -> Any:
        numbers = _pick(args, argnums)

        def of_chosen(*chosen: Any) -> Any:
            given = dict(zip(numbers, chosen, strict=True))
            return function(*(given.get(i, a) for i, a in enumerate(args)))

        out, pull = vjp(of_chosen, *(args[n] for n in numbers))

        def rows(y: Any, k: int) -> Any:
            zeros = tree_map(lambda o: Tensor(np.zeros(o.shape, o.dtype)), out)

            def one(unit: Any) -> Any:
                parts = leaves(zeros)
                parts[k] = unit
                it = iter(parts)
                return pull(tree_map(lambda _: next(it), out))

            stacked = vmap(one)(_basis(y))
            shaped = tree_map(lambda j: reshape(j, (*y.shape, *j.shape[1:])), stacked)
            return shaped[0] if isinstance(argnums, int) else shaped

        count = iter(range(len(leaves(out))))
        return tree_map(lambda y: rows(y, next(count)), out)

    return transformed


def jacfwd(function: Function, argnums: int | Sequence[int] = 0) -> Function:
    """The Jacobian by forward mode: (*output shape, *input shape). Good for few inputs."""

    def transformed(*args: Any) -> Any:
        numbers = _pick(args, argnums)
        chosen = tuple(args[n] for n in numbers)
        flat = [as_leaf(x) for x in leaves(chosen)]

        def of_leaf(k: int, x: Any) -> Any:
            parts = iter([*flat[:k], x, *flat[k + 1 :]])
            given = dict(zip(numbers, tree_map(lambda _: next(parts), chosen), strict=True))
            return function(*(given.get(i, a) for i, a in enumerate(args)))

        def columns(k: int) -> Any:
            x = flat[k]
            stacked = vmap(
                lambda unit: jvp(lambda v: of_leaf(k, v), (x,), (unit,))[1], out_dims=-1
            )(_basis(x))
            return tree_map(lambda j: reshape(j, (*j.shape[:-1], *x.shape)), stacked)

        def gather(*columns: Any) -> Any:  # one output's derivatives, by every input
            parts = iter(columns)
            found = tree_map(lambda _: next(parts), chosen)
            return found[0] if isinstance(argnums, int) else found

        return tree_map(gather, *(columns(k) for k in range(len(flat))))

    return transformed


def hessian(function: Function, argnums: int | Sequence[int] = 0) -> Function:
    """The matrix of second derivatives: forward mode over reverse mode.

    >>> import fathom
    >>> hessian(lambda x: (x**3).sum())(fathom.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(function, argnums), argnums)


def hvp(function: Function, primals: Any, tangents: Any) -> Any:
    """Hessian times vector, without the Hessian: the jvp of the gradient.

    `primals` and `tangents` are a tensor each, or tuples of one tensor an argument.
    """
    if not isinstance(primals, tuple):
        return jvp(grad(function), (primals,), (tangents,))[1]
    numbers = tuple(range(len(primals)))
    return jvp(grad(function, numbers), primals, tangents)[1]


def per_sample_grad(
    function: Function, in_dims: Any = None, *, compile: bool | Literal["auto"] = "auto"
) -> Function:
    """The gradient of a loss for every sample on its own: `vmap(grad(loss))`.

    `function(params, x, y, ...)` is the loss of one sample; the gradients with respect to its
    first argument come back with a leading axis for the samples. `in_dims` says which
    arguments hold samples; by default all but the first, along their first axis.

    compile : whether calls run as a plan (`fathom.compile`): "auto" from the 16th call with
        arguments of the same shapes on, where `function` only computes, as far as its code tells
        (it writes to nothing outside, and names Fathom, NumPy, tensors and the like); True at
        once; False never. An `EagerWarning` says why not. Arguments that require grad outside of
        `no_grad` keep their graph, and so there is no plan for them.

    >>> import fathom
    >>> squares = per_sample_grad(lambda w, x: (w * x) ** 2)
    >>> squares(fathom.tensor(1.0), fathom.tensor([1.0, 2.0, 3.0]))
    tensor([ 2.,  8., 18.])
    """

    def transformed(*args: Any) -> Any:
        dims = in_dims if in_dims is not None else (None, *(0 for _ in args[1:]))
        return vmap(grad(function), dims)(*args)

    if compile is False:
        return transformed
    from fathom.compile.function import Compiled
    from fathom.compile.repeated import Repeated

    if compile is True:
        return Compiled(transformed)
    return Repeated(transformed, function, "per_sample_grad")


def functional_call(module: Any, parameters: Any, args: Any, kwargs: Any = None) -> Any:
    """Call a module with other values for its parameters and buffers, given by dotted name.

    The module itself is not changed. With this, a model is a function of its weights, as the
    other transforms want it.
    """
    inputs = args if isinstance(args, tuple) else (args,)
    owners = dict(module.named_modules())
    places = []
    for name, value in parameters.items():
        path, _, last = name.rpartition(".")
        owner = owners.get(path)
        registry = next(
            (r for r in ("_parameters", "_buffers") if owner and last in getattr(owner, r)), None
        )
        if owner is None or registry is None:
            raise ArgumentError(f"functional_call: the module has no parameter {name!r}")
        places.append((getattr(owner, registry), last, value))
    kept = [(registry, last, registry[last]) for registry, last, _ in places]
    try:
        for registry, last, value in places:
            registry[last] = value
        return module(*inputs, **(kwargs or {}))
    finally:
        for registry, last, value in kept:
            registry[last] = value


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(parameters, buffers) of several modules of one architecture, each stacked by name.

    With `vmap` and `functional_call` the modules then run as one.

    >>> import fathom
    >>> models = [fathom.nn.Linear(2, 3) for _ in range(4)]
    >>> parameters, buffers = stack_module_state(models)
    >>> parameters["weight"].shape
    (4, 3, 2)
    """
    if not models:
        raise ArgumentError("stack_module_state: needs at least one module")

    def stacked(states: list[dict[str, Any]], grad: bool) -> dict[str, Tensor]:
        if any(state.keys() != states[0].keys() for state in states):
            raise ArgumentError("stack_module_state: the modules must be of one architecture")
        out = {}
        for name, first in states[0].items():
            whole = stack([state[name].detach() for state in states])
            out[name] = whole.requires_grad_() if grad and first.requires_grad else whole
        return out

    return (
        stacked([dict(m.named_parameters()) for m in models], True),
        stacked([dict(m.named_buffers()) for m in models], False),
    )
