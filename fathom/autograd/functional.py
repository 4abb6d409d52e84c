"""`torch.autograd.functional`: derivatives of a function at given inputs, over `fathom.func`.

`inputs` is a tensor or a tuple of tensors, and the derivatives come in the same form. With
`create_graph` they can be differentiated further; without it they are plain values.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from fathom import func as transforms
from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Tensor

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def _given(inputs: Any) -> tuple[tuple[Any, ...], Any]:
    """The inputs as a tuple, and with respect to which of them."""
    if isinstance(inputs, tuple):
        return inputs, tuple(range(len(inputs)))
    return (inputs,), 0


def _mode(create_graph: bool, strict: bool) -> Any:
    if strict:
        raise ArgumentError(
            "strict=True is not offered: an input that has no influence has gradient zero",
            fix="autograd.grad raises for inputs that were not used",
        )
    return nullcontext() if create_graph else no_grad()


def _direction(name: str, v: Any, like: tuple[Any, ...]) -> tuple[Any, ...]:
    """The vector to multiply with: one tensor for each of `like`; 1 for a single number."""
    if v is None:
        if len(like) != 1 or like[0].size != 1:
            raise ShapeError(f"{name}: v may be left out for a single number only")
        return (Tensor(np.ones(like[0].shape, like[0].dtype)),)
    parts = v if isinstance(v, tuple) else (v,)
    shapes, wanted = [p.shape for p in parts], [x.shape for x in like]
    if shapes != wanted:
        raise ShapeError(f"{name}: v has shapes {shapes}; needed are {wanted}")
    return parts


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The derivatives of every element of the output with respect to every element of the inputs.

    For several outputs a tuple, for a tuple of inputs in each of them a tuple.

    >>> import fathom
    >>> jacobian(lambda x: x * x, fathom.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    ways = {"reverse-mode": transforms.jacrev, "forward-mode": transforms.jacfwd}
    if strategy not in ways:
        raise ArgumentError(f"jacobian: strategy is one of {sorted(ways)}; received {strategy!r}")
    given, numbers = _given(inputs)
    with _mode(create_graph, strict):
        return ways[strategy](func, numbers)(*given)


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of a function that returns a single number.

    >>> import fathom
    >>> hessian(lambda x: (x**3).sum(), fathom.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    given, numbers = _given(inputs)

    def single(*xs: Any) -> Any:
        return func(*xs).reshape(())

    with _mode(create_graph, strict):
        return transforms.hessian(single, numbers)(*given)


def vjp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """(outputs, v times the Jacobian); v has the form of the outputs."""
    given, _ = _given(inputs)
    with _mode(create_graph, strict):
        outputs, pull = transforms.vjp(func, *given)
        several = isinstance(outputs, tuple)
        cotangent = _direction("vjp", v, outputs if several else (outputs,))
        pulled = pull(cotangent if several else cotangent[0])
    return outputs, pulled if isinstance(inputs, tuple) else pulled[0]


def jvp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """(outputs, the Jacobian times v); v has the form of the inputs."""
    given, _ = _given(inputs)
    with _mode(create_graph, strict):
        outputs, pushed = transforms.jvp(func, given, _direction("jvp", v, given))
    return outputs, pushed


def _gradient(func: Callable[..., Any], count: int) -> Callable[..., Any]:
    """(gradients, value) of a function that returns a single number, maybe with axes."""
    return transforms.grad_and_value(lambda *xs: func(*xs).reshape(()), range(count))


def hvp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """(output, the Hessian times v), by forward over reverse mode.

    >>> import fathom
    >>> hvp(lambda x: (x**3).sum(), fathom.tensor([1.0, 2.0]), fathom.tensor([1.0, 0.0]))
    (tensor(9.), tensor([6., 0.]))
    """
    given, _ = _given(inputs)
    with _mode(create_graph, strict):
        direction = _direction("hvp", v, given)
        (_, value), (product, _) = transforms.jvp(_gradient(func, len(given)), given, direction)
    return value, product if isinstance(inputs, tuple) else product[0]


def vhp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """(output, v times the Hessian), by reverse over reverse mode."""
    given, _ = _given(inputs)
    with _mode(create_graph, strict):
        _, pull, value = transforms.vjp(_gradient(func, len(given)), *given, has_aux=True)
        product = pull(_direction("vhp", v, given))
    return value, product if isinstance(inputs, tuple) else product[0]
