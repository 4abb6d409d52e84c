"""Tables of learned vectors, looked up by whole numbers."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.tensor import Tensor, TensorLike, mark_written
from fathom.nn import functional as F
from fathom.nn import init
from fathom.nn.checks import flag, number, positive, whole
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter
from fathom.ops.checks import one_of, operand


class _Table(Module):
    """What `Embedding` and `EmbeddingBag` share."""

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        weight: TensorLike | None,
        freeze: bool,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        self.num_embeddings = positive(num_embeddings, "num_embeddings", kind)
        self.embedding_dim = positive(embedding_dim, "embedding_dim", kind)
        if padding_idx is not None:
            whole(padding_idx, "padding_idx", kind)
            if not -self.num_embeddings <= padding_idx < self.num_embeddings:
                raise ArgumentError(
                    f"{kind}: padding_idx {padding_idx} is outside of the {num_embeddings} rows"
                )
            padding_idx = int(padding_idx) % self.num_embeddings
        if max_norm is not None:
            max_norm = number(max_norm, "max_norm", kind, 0.0, above=True)
        self.padding_idx, self.max_norm = padding_idx, max_norm
        self.norm_type = number(norm_type, "norm_type", kind, 0.0, above=True)
        self.scale_grad_by_freq = flag(scale_grad_by_freq, "scale_grad_by_freq", kind)
        self._set_weight(weight, flag(freeze, "_freeze", kind))

    def _set_weight(self, weight: TensorLike | None, freeze: bool) -> None:
        shape = (self.num_embeddings, self.embedding_dim)
        if weight is not None:
            given = operand(weight)
            if given.shape != shape:
                raise ShapeError(
                    f"{type(self).__name__}: the given weight has shape {given.shape}, not {shape}"
                )
            data = given.value() if isinstance(given, Tensor) else given
            self.weight = Parameter(data, not freeze)
            return
        self.weight = Parameter(np.empty(shape, np.float32), not freeze)
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0.0
            mark_written(self.weight)

    @classmethod
    def from_pretrained(cls, embeddings: TensorLike, freeze: bool = True, **options: Any) -> Self:
        """A layer around a given table (rows, width), which does not learn unless told to.

        >>> import fathom
        >>> Embedding.from_pretrained(fathom.tensor([[1.0], [2.0]]))([1])
        tensor([[2.]])
        """
        table = operand(embeddings)
        if table.ndim != 2:
            raise ShapeError(
                f"{cls.__name__}.from_pretrained: needs (rows, width); received {table.shape}"
            )
        make: Any = cls
        return make(*table.shape, _weight=table, _freeze=freeze, **options)

    def config(self) -> dict[str, Any]:
        frozen = {} if self.weight.requires_grad else {"_freeze": True}
        return {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "padding_idx": self.padding_idx,
            "max_norm": self.max_norm,
            "norm_type": self.norm_type,
            "scale_grad_by_freq": self.scale_grad_by_freq,
            **frozen,
        }


class Embedding(_Table):
    """Rows of a table by number: (...) -> (..., embedding_dim).

    The same as a one-hot vector times the table. Rows start normally distributed.

    padding_idx : the row that starts at 0 and gets no gradient.
    max_norm : rows that are used and longer than this are shortened first.
    scale_grad_by_freq : gradients are divided by how often their row occurs in the batch.

    >>> import fathom
    >>> Embedding(10, 3, padding_idx=0)([[1, 2, 0]]).shape
    (1, 3, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: TensorLike | None = None,
        _freeze: bool = False,
    ) -> None:
        _no_sparse("Embedding", flag(sparse, "sparse", "Embedding"))
        super().__init__(
            num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq,
            _weight, _freeze,
        )  # fmt: skip

    def forward(self, input: TensorLike) -> Tensor:
        return F.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type,
            self.scale_grad_by_freq,
        )  # fmt: skip


class EmbeddingBag(_Table):
    """Sum, mean or maximum of bags of rows: (bags, n) -> (bags, embedding_dim).

    Or (n,) with the start of each bag in `offsets`. Rows `padding_idx` do not count.

    >>> import fathom
    >>> EmbeddingBag(10, 3, mode="sum")([1, 2, 4, 5], offsets=[0, 3]).shape
    (2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: TensorLike | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        _freeze: bool = False,
    ) -> None:
        _no_sparse("EmbeddingBag", flag(sparse, "sparse", "EmbeddingBag"))
        one_of("EmbeddingBag", "mode", mode, ("sum", "mean", "max"))
        super().__init__(
            num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq,
            _weight, _freeze,
        )  # fmt: skip
        self.mode = mode
        self.include_last_offset = flag(include_last_offset, "include_last_offset", self)

    def forward(
        self,
        input: TensorLike,
        offsets: TensorLike | None = None,
        per_sample_weights: TensorLike | None = None,
    ) -> Tensor:
        return F.embedding_bag(
            input, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq,
            self.mode, per_sample_weights, self.include_last_offset, self.padding_idx,
        )  # fmt: skip

    def config(self) -> dict[str, Any]:
        return {
            **super().config(),
            "mode": self.mode,
            "include_last_offset": self.include_last_offset,
        }


def _no_sparse(kind: str, sparse: bool) -> None:
    if sparse:
        raise ArgumentError(
            f"{kind}: gradients are dense arrays here", fix="leave sparse=False, the default"
        )
