"""A small decoder-only Transformer that learns to continue sequences (Radford et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.tensor import Tensor, TensorLike
from fathom.models.language import LanguageModel
from fathom.nn import (
    Dropout,
    Embedding,
    LearnedPositionalEncoding,
    Linear,
    SinusoidalPositionalEncoding,
    TransformerEncoder,
    TransformerEncoderLayer,
    init,
)
from fathom.nn import functional as F
from fathom.nn.attention import key_value_cache
from fathom.nn.checks import positive
from fathom.nn.norm import LayerNorm, RMSNorm
from fathom.nn.spec import register
from fathom.ops.checks import one_of, operand

POSITIONS = ("learned", "sinusoidal", "rotary", "alibi", "none")


@register
class TransformerLM(LanguageModel):
    """Scores of the next token at every place: (n, time) token numbers -> (n, time, vocabulary).

    A causal stack of pre-norm blocks between an embedding and the same embedding transposed.

    context : the longest sequence, and how far back `generate` looks. Until it is full, `generate`
        keeps the keys and values of what it has read (`cache`); a window that slides must be
        read anew for each token, since all positions in it change.
    activation : gelu, relu, silu, tanh, or with a gate glu, reglu, geglu, swiglu.
    position : learned, sinusoidal, rotary, alibi or none. norm : "layer" or "rms".
    tie : one matrix for embedding and output (Press & Wolf, 2017).

    >>> import fathom
    >>> model = TransformerLM("abc", d_model=8, heads=2, layers=1, context=16)
    >>> model(fathom.tensor([[0, 1, 2, 0]])).shape
    (1, 4, 3)
    >>> len(model.generate("ab", 5, seed=0))
    7
    """

    builds_children = True

    def __init__(
        self,
        vocabulary: int | str | Sequence[str],
        d_model: int = 64,
        heads: int = 4,
        layers: int = 2,
        context: int = 64,
        hidden: int | None = None,
        dropout: float = 0.0,
        activation: str = "gelu",
        position: str = "learned",
        norm: str = "layer",
        norm_first: bool = True,
        tie: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__(vocabulary)
        one_of("TransformerLM", "position", position, POSITIONS)
        self.context = positive(context, "context", "TransformerLM")
        self.position_kind, self.tie = position, bool(tie)
        self.embedding = Embedding(self.vocabulary, d_model)
        if position in ("learned", "sinusoidal"):
            kinds = (LearnedPositionalEncoding, SinusoidalPositionalEncoding)
            self.position = kinds[position == "sinusoidal"](d_model, self.context)
        self.dropout = Dropout(dropout)
        block = TransformerEncoderLayer(
            d_model, heads, hidden or 4 * d_model, dropout, activation, batch_first=True,
            norm_first=norm_first, bias=bias, norm=norm, rotary=position == "rotary",
            alibi=position == "alibi",
        )  # fmt: skip
        last = RMSNorm(d_model) if norm == "rms" else LayerNorm(d_model, bias=bias)
        self.blocks = TransformerEncoder(block, layers, last if norm_first else None)
        if not self.tie:
            self.head = Linear(d_model, self.vocabulary, bias=False)
        self._start(layers)

    def _start(self, layers: int) -> None:
        """Normal weights of deviation 0.02, smaller where a residual adds up (GPT-2)."""
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue
            ends = name.endswith(("out_proj.weight", "linear2.weight"))
            init.normal_(parameter, 0.0, 0.02 / (2 * layers) ** 0.5 if ends else 0.02)

    def forward(self, x: TensorLike, offset: int = 0) -> Tensor:
        """Scores (n, time, vocabulary); `offset` is the place of the first token."""
        ids = operand(x)
        if ids.ndim != 2:
            raise ShapeError(f"TransformerLM: needs token numbers (n, time); received {ids.shape}")
        if offset + ids.shape[1] > self.context:
            raise ShapeError(
                f"TransformerLM: {mark_axes(ids.shape, [1])} is longer than the context, "
                f"{self.context}",
                fix="cut the sequence, or build the model with a larger context",
            )
        h = self.embedding(ids)
        if "position" in self._modules:
            h = self.position(h, offset)
        h = self.blocks(self.dropout(h), is_causal=True)
        return F.linear(h, self.embedding.weight) if self.tie else self.head(h)

    def _continue(self, numbers: list[int], n: int, choose: Any, cache: bool) -> list[int]:
        cached = max(0, min(n, self.context + 1 - len(numbers))) if cache else 0
        with key_value_cache(self):
            read = 0
            for _ in range(cached):
                scores = self(np.array([numbers[read:]], np.int64), read)
                read = len(numbers)
                numbers.append(choose(scores.value()[0, -1]))
        for _ in range(n - cached):
            scores = self(np.array([numbers[-self.context :]], np.int64))
            numbers.append(choose(scores.value()[0, -1]))
        return numbers

    def config(self) -> dict[str, Any]:
        block = self.blocks.layers[0].config()
        return {
            "vocabulary": self._vocabulary_config(),
            "d_model": block["d_model"],
            "heads": block["nhead"],
            "layers": self.blocks.num_layers,
            "context": self.context,
            "hidden": block["dim_feedforward"],
            "dropout": self.dropout.p,
            "activation": block["activation"],
            "position": self.position_kind,
            "norm": block["norm"],
            "norm_first": block["norm_first"],
            "tie": self.tie,
            "bias": block["bias"],
        }


def windows(numbers: Any, length: int, stride: int | None = None) -> tuple[Any, Any]:
    """Inputs and targets for a language model: rows of `length` tokens, and each one's next.

    >>> x, y = windows([0, 1, 2, 3, 4], 2)
    >>> x.tolist(), y.tolist()
    ([[0, 1], [2, 3]], [[1, 2], [3, 4]])
    """
    row, size = np.asarray(numbers), positive(length, "length", "windows")
    step = size if stride is None else positive(stride, "stride", "windows")
    if row.ndim != 1 or len(row) <= size:
        raise ArgumentError(
            f"windows: needs a row of more than {size} tokens; received shape {row.shape}"
        )
    starts = np.arange(0, len(row) - size, step)[:, None] + np.arange(size)
    return row[starts], row[starts + 1]
