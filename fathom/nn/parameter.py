"""`Parameter`: a tensor that a module owns and an optimizer changes."""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from fathom.engine.tensor import Tensor


class Parameter(Tensor):
    """A leaf tensor that registers itself when set as an attribute of a `Module`.

    >>> import fathom
    >>> fathom.nn.Parameter([1.0, 2.0]).requires_grad
    True
    """

    def __init__(
        self, data: Any, requires_grad: bool = True, *, dtype: DTypeLike | None = None
    ) -> None:
        super().__init__(data, requires_grad, dtype=dtype)
