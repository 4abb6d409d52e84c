"""A character-level LSTM (Graves, 2013; Karpathy, 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ShapeError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.models.language import LanguageModel
from fathom.nn import LSTM, Dropout, Embedding, Linear
from fathom.nn.spec import register
from fathom.ops.checks import operand


@register
class CharLSTM(LanguageModel):
    """Scores of the next token at every place: (n, time) token numbers -> (n, time, vocabulary).

    An embedding, an LSTM and a linear layer. `run` gives the state as well and takes one, to go
    on with a long text piece by piece.

    >>> import fathom
    >>> model = CharLSTM("abc", embedding=4, hidden=8)
    >>> model(fathom.tensor([[0, 1, 2, 0]])).shape
    (1, 4, 3)
    >>> model.generate("ab", 5, temperature=0)[:2]
    'ab'
    """

    builds_children = True

    def __init__(
        self,
        vocabulary: int | str | Sequence[str],
        embedding: int = 32,
        hidden: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(vocabulary)
        self.embedding = Embedding(self.vocabulary, embedding)
        between = dropout if layers > 1 else 0.0
        self.lstm = LSTM(embedding, hidden, layers, batch_first=True, dropout=between)
        self.dropout = Dropout(dropout)
        self.head = Linear(hidden, self.vocabulary)

    def forward(self, x: TensorLike) -> Tensor:
        return self.run(x)[0]

    def run(self, x: TensorLike, state: Any = None) -> tuple[Tensor, Any]:
        """Scores, and the state (h, c) behind the last token."""
        ids = operand(x)
        if ids.ndim != 2:
            raise ShapeError(f"CharLSTM: needs token numbers (n, time); received {ids.shape}")
        out, state = self.lstm(self.embedding(ids), state)
        return self.head(self.dropout(out)), state

    def _continue(self, numbers: list[int], n: int, choose: Any, cache: bool) -> list[int]:
        new, state = list(numbers), None
        for _ in range(n):
            scores, state = self.run(np.array([new], np.int64), state)
            new = [choose(scores.value()[0, -1])]
            numbers.append(new[0])
        return numbers

    def config(self) -> dict[str, Any]:
        return {
            "vocabulary": self._vocabulary_config(),
            "embedding": self.embedding.embedding_dim,
            "hidden": self.lstm.hidden_size,
            "layers": self.lstm.num_layers,
            "dropout": self.dropout.p,
        }
