"""What language models share: a vocabulary, and text made token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.modes import no_grad
from fathom.engine.random import Random, current
from fathom.nn import Module
from fathom.nn.checks import positive


def sample_token(logits: Any, temperature: float, top_k: int | None, stream: Any) -> int:
    """One token from scores (vocabulary,): the best at temperature 0, else by chance.

    Drawn as the largest of the scores plus Gumbel noise, so no softmax is needed.
    """
    scores = np.asarray(logits, np.float64)
    if temperature == 0:
        return int(np.argmax(scores))
    scores = scores / temperature
    if top_k is not None and top_k < len(scores):
        least = np.partition(scores, -top_k)[-top_k]
        scores = np.where(scores >= least, scores, -np.inf)
    noise = stream.uniform(scores.shape, 1e-300, 1.0, np.float64)
    return int(np.argmax(scores - np.log(-np.log(np.maximum(noise, 1e-300)))))


class LanguageModel(Module):
    """A model that gives the scores of the next token, (n, time) -> (n, time, vocabulary).

    vocabulary : how many tokens there are, or the tokens themselves (a string of characters or
        a list), so that `encode`, `decode` and `generate` take and give text.
    """

    vocabulary: int
    tokens: list[str] | None

    def __init__(self, vocabulary: int | str | Sequence[str]) -> None:
        super().__init__()
        self.tokens = None
        if isinstance(vocabulary, str | list | tuple):
            self.tokens = [str(token) for token in vocabulary]
            if not self.tokens or len(set(self.tokens)) != len(self.tokens):
                raise ArgumentError(
                    f"{type(self).__name__}: the tokens of a vocabulary must differ",
                    fix="sorted(set(text))",
                )
            vocabulary = len(self.tokens)
        self.vocabulary = positive(vocabulary, "vocabulary", type(self).__name__)

    def _vocabulary_config(self) -> Any:
        return self.vocabulary if self.tokens is None else self.tokens

    def encode(self, text: Sequence[str]) -> Any:
        """Token numbers of a text, (time,)."""
        if self.tokens is None:
            raise ArgumentError(
                f"{type(self).__name__}: built with the size of its vocabulary only",
                fix="pass the tokens themselves as vocabulary, or give token numbers",
            )
        numbers = {token: i for i, token in enumerate(self.tokens)}
        unknown = next((token for token in text if token not in numbers), None)
        if unknown is not None:
            raise ArgumentError(
                f"{type(self).__name__}: {unknown!r} is not in the vocabulary",
                fix=suggest(unknown, self.tokens),
            )
        return np.array([numbers[token] for token in text], np.int64)

    def decode(self, numbers: Any) -> str:
        """The text of token numbers."""
        if self.tokens is None:
            raise ArgumentError(f"{type(self).__name__}: built without the tokens themselves")
        return "".join(self.tokens[int(i)] for i in np.asarray(numbers).reshape(-1))

    def generate(
        self,
        prompt: Any,
        n: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int | None = None,
        cache: bool = True,
    ) -> Any:
        """The prompt and n more tokens, drawn one by one; a text if the prompt is one.

        temperature : 0 takes the likeliest each time, 1 draws as the model says, more is wilder.
        top_k : draw among the k likeliest only.
        seed : of the draws; by default they come from the stream "generate" of the current
            `Random`.
        cache : keep what was computed for the tokens so far. The result is the same without, only
            later; a recurrent model carries its state in any case.
        """
        kind = type(self).__name__
        if not temperature >= 0:
            raise ArgumentError(f"{kind}: temperature must be >= 0; received {temperature!r}")
        if top_k is not None:
            positive(top_k, "top_k", kind)
        is_text = isinstance(prompt, str)
        given = self.encode(prompt) if is_text else np.asarray(prompt)
        if given.ndim != 1 or not len(given) or given.dtype.kind not in "iu":
            raise ArgumentError(
                f"{kind}: the prompt is a text or a row of token numbers, at least one"
            )
        stream = (current() if seed is None else Random(seed)).stream("generate")
        training = self.training
        self.eval()
        try:
            with no_grad():
                found = self._continue(
                    [int(i) for i in given],
                    n,
                    lambda scores: sample_token(scores, temperature, top_k, stream),
                    cache,
                )
        finally:
            self.train(training)
        return self.decode(found) if is_text else np.array(found, np.int64)

    def _continue(self, numbers: list[int], n: int, choose: Any, cache: bool) -> list[int]:
        """The token numbers and n more; `choose` makes one of scores (vocabulary,)."""
        raise NotImplementedError
