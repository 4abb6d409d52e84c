"""Words as vectors, learnt from the company they keep: skip-gram and GloVe.

A batch touches few words, so only the rows of these are gathered, become the parameters of the
loss, and are moved: the gradient is sparse without a sparse array.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.random import Random
from fathom.engine.tensor import Tensor
from fathom.nn import Embedding
from fathom.nn import functional as F
from fathom.nn.checks import positive
from fathom.ops.embedding import embedding
from fathom.ops.reduce import sum as sum_

Sentences = Iterable[Sequence[str]]
Question = tuple[str, str, str, str]


class _Rows:
    """A table of parameters of which each step uses some rows; AdaGrad (Duchi et al., 2011)."""

    def __init__(self, table: Any, rate: float) -> None:
        self.table, self.rate = table, rate
        self.squares = np.full_like(table, 1e-8)

    def take(self, index: Any) -> tuple[Tensor, Any, Any]:
        """The rows in use as a leaf, their numbers, and all rows of `index` looked up in it."""
        used, place = np.unique(index, return_inverse=True)
        leaf = Tensor(self.table[used], True)
        return leaf, used, embedding(place.reshape(index.shape), leaf)

    def step(self, leaf: Tensor, used: Any) -> None:
        """Move the rows by the gradient of their leaf."""
        gradient = leaf.grad.value()  # type: ignore[union-attr]
        self.squares[used] += np.square(gradient)
        self.table[used] -= self.rate * gradient / np.sqrt(self.squares[used])


class WordVectors:
    """Words and their vectors (words, width): neighbours, similarities, analogies.

    >>> vectors = WordVectors(["man", "woman", "king", "queen"],
    ...                       [[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1]])
    >>> vectors.analogy("king", "man", "woman")
    [('queen', 0.958569)]
    >>> vectors["king"].tolist()
    [1.0, 0.0, 1.0]
    """

    def __init__(self, words: Sequence[str], vectors: Any) -> None:
        self._set(list(words), np.asarray(vectors, np.float32))

    def _set(self, words: list[str], vectors: Any) -> None:
        if vectors.ndim != 2 or len(words) != len(vectors) or len(set(words)) != len(words):
            raise ArgumentError(
                f"{type(self).__name__}: needs different words and a row for each; received "
                f"{len(words)} words and vectors of shape {vectors.shape}"
            )
        self.words, self.vectors = words, vectors
        self.numbers = {word: i for i, word in enumerate(words)}
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self._units = vectors / np.maximum(lengths, 1e-12)

    def number(self, word: str) -> int:
        """The row of a word; an error names the nearest known one."""
        if word not in self.numbers:
            raise ArgumentError(
                f"{type(self).__name__}: {word!r} is not among the words",
                fix=suggest(word, self.words),
            )
        return self.numbers[word]

    def __getitem__(self, word: str) -> Any:
        return self.vectors[self.number(word)]

    def __contains__(self, word: str) -> bool:
        return word in self.numbers

    def similarity(self, a: str, b: str) -> float:
        """The cosine between two words."""
        return float(self._units[self.number(a)] @ self._units[self.number(b)])

    def nearest(self, word: str, k: int = 5) -> list[tuple[str, float]]:
        """The k words of the largest cosine with a word, and that cosine."""
        return self._best(self._units[self.number(word)], k, {word})

    def analogy(
        self, a: str, b: str, c: str, k: int = 1, exclude: bool = True
    ) -> list[tuple[str, float]]:
        """The k words nearest to a - b + c: king - man + woman.

        Directions count, not lengths (3CosAdd of Mikolov et al., 2013). `exclude` leaves the
        three words of the question out of the answers, as is usual; they are often the nearest.
        """
        target = self._target([(a, b, c)])[0]
        return self._best(target, k, {a, b, c} if exclude else set())

    def _target(self, questions: Sequence[tuple[str, str, str]]) -> Any:
        a, b, c = np.array([[self.number(word) for word in q] for q in questions]).T
        return self._units[a] - self._units[b] + self._units[c]

    def _best(self, target: Any, k: int, without: set[str]) -> list[tuple[str, float]]:
        cosines = self._units @ (target / max(float(np.linalg.norm(target)), 1e-12))
        order = [i for i in np.argsort(-cosines, kind="stable") if self.words[i] not in without]
        wanted = order[: positive(k, "k", type(self).__name__)]
        return [(self.words[i], round(float(cosines[i]), 6)) for i in wanted]

    def accuracy(self, questions: Sequence[Question], exclude: bool = True) -> float:
        """The share of questions (a, b, c, d) for which d is the word nearest to a - b + c."""
        known = np.array([[self.number(word) for word in q] for q in questions])
        if not len(known):
            raise ArgumentError(f"{type(self).__name__}.accuracy: there are no questions")
        scores = self._target([q[:3] for q in questions]) @ self._units.T  # (questions, words)
        if exclude:
            np.put_along_axis(scores, known[:, :3], -np.inf, axis=1)
        return float((scores.argmax(1) == known[:, 3]).mean())

    def embedding(self, freeze: bool = True) -> Embedding:
        """The vectors as a layer that takes `number`s."""
        return Embedding.from_pretrained(self.vectors, freeze)


class _Learned(WordVectors):
    """What both ways of learning share: the vocabulary and the numbers of the text."""

    def __init__(
        self, width: int, window: int, epochs: int, batch_size: int, lr: float, min_count: int,
        seed: int,
    ) -> None:  # fmt: skip
        kind = type(self).__name__
        self.width, self.window = positive(width, "width", kind), positive(window, "window", kind)
        self.epochs = positive(epochs, "epochs", kind)
        self.batch_size = positive(batch_size, "batch_size", kind)
        self.min_count = positive(min_count, "min_count", kind)
        if not lr > 0:
            raise ArgumentError(f"{kind}: lr must be > 0; received {lr!r}")
        self.lr, self.seed = float(lr), seed
        self.losses: list[float] = []
        self._set([], np.zeros((0, self.width), np.float32))

    def _read(self, sentences: Sentences) -> tuple[list[str], Any, list[Any]]:
        """Words from the commonest on, how often each occurs, and the sentences as numbers."""
        text = [list(sentence) for sentence in sentences]
        counts = Counter(word for sentence in text for word in sentence)
        kept = [word for word, n in counts.items() if n >= self.min_count]
        words = sorted(kept, key=lambda word: (-counts[word], word))
        if len(words) < 2:
            raise ArgumentError(
                f"{type(self).__name__}: needs two different words that occur min_count="
                f"{self.min_count} times",
                fix="sentences are lists of words: text.split()",
            )
        numbers = {word: i for i, word in enumerate(words)}
        rows = [np.array([numbers[w] for w in row if w in numbers], np.int64) for row in text]
        return words, np.array([counts[word] for word in words], np.float64), rows

    def _start(self, count: int, stream: Any, width: int) -> _Rows:
        """Small random rows, as in word2vec."""
        return _Rows(stream.uniform((count, width), -0.5 / width, 0.5 / width), self.lr)


def _pairs(rows: Sequence[Any], window: int) -> tuple[Any, Any, Any]:
    """Centre, context and their distance for all pairs of words at most `window` apart."""
    centres, contexts, distances = [], [], []
    for distance in range(1, window + 1):
        left = np.concatenate([row[:-distance] for row in rows])
        right = np.concatenate([row[distance:] for row in rows])
        centres += [left, right]
        contexts += [right, left]
        distances.append(np.full(2 * len(left), distance))
    return np.concatenate(centres), np.concatenate(contexts), np.concatenate(distances)


class SkipGram(_Learned):
    """Vectors that tell a word's company from random words (Mikolov et al., 2013).

    For each pair of a word and one at most `window` places from it, and `negatives` words drawn
    in proportion to count^0.75: -log sigmoid(u . v) - sum log sigmoid(-u_k . v).

    width : of the vectors. epochs : passes over all pairs. lr : of AdaGrad.
    subsample : words of a share f of the text are kept with probability sqrt(subsample / f), so
        that "the" does not fill the windows; 0 keeps all. min_count : rarer words are left out.
    After `fit`: `words`, `vectors`, `contexts` (the vectors u), and the mean loss of each epoch.

    >>> from fathom.data import grammar
    >>> model = SkipGram(width=8, epochs=1).fit(grammar(100, ("people",)).sentences)
    >>> model.vectors.shape[1], len(model.losses), "king" in model
    (8, 1, True)
    """

    def __init__(
        self,
        width: int = 32,
        window: int = 5,
        negatives: int = 5,
        epochs: int = 5,
        batch_size: int = 512,
        lr: float = 0.1,
        subsample: float = 0.0,
        min_count: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(width, window, epochs, batch_size, lr, min_count, seed)
        self.negatives = positive(negatives, "negatives", "SkipGram")
        if not subsample >= 0:
            raise ArgumentError(f"SkipGram: subsample must be >= 0; received {subsample!r}")
        self.subsample = float(subsample)

    def fit(self, sentences: Sentences) -> Self:
        """Learn from sentences, each a list of words. Returns itself."""
        words, counts, rows = self._read(sentences)
        random = Random(self.seed)
        centre = self._start(len(words), random.stream("init"), self.width)
        context = _Rows(np.zeros((len(words), self.width), np.float32), self.lr)
        edges = np.cumsum(counts**0.75) / np.sum(counts**0.75)
        self.losses = []
        for _ in range(self.epochs):
            first, second, _ = _pairs(self._thinned(rows, counts, random), self.window)
            order = random.stream("shuffle").permutation(len(first))
            total = 0.0
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                draws = random.stream("negatives").uniform((len(batch), self.negatives))
                wrong = np.minimum(np.searchsorted(edges, draws, side="right"), len(words) - 1)
                company = np.concatenate([second[batch, None], wrong], axis=1)
                total += self._learn(centre, context, first[batch], company)
            self.losses.append(total / max(len(order), 1))
        self.contexts = context.table
        self._set(words, centre.table)
        return self

    def _thinned(self, rows: list[Any], counts: Any, random: Random) -> list[Any]:
        if not self.subsample:
            return rows
        keep = np.sqrt(self.subsample * counts.sum() / counts)
        stream = random.stream("subsample")
        return [row[stream.uniform(row.shape) < keep[row]] for row in rows]

    def _learn(self, centre: _Rows, context: _Rows, words: Any, company: Any) -> float:
        """One step on words (n,) and their company (n, 1 + negatives); the sum of the losses."""
        leaf, used, v = centre.take(words)  # v (n, width)
        other, seen, u = context.take(company)  # u (n, 1 + negatives, width)
        signs = np.ones(company.shape[1], np.float32)
        signs[0] = -1.0  # the first is to be near, the others are not
        scores: Any = sum_(u * v.reshape(-1, 1, self.width), -1)
        loss = sum_(F.softplus(scores * signs))
        loss.backward()
        centre.step(leaf, used)
        context.step(other, seen)
        return float(loss.item())


class GloVe(_Learned):
    """Vectors whose products are the logarithms of how often words meet (Pennington et al., 2014).

    Minimizes sum_ij f(X_ij) (w_i . u_j + b_i + c_j - log X_ij)^2 over pairs that meet, where X
    counts a meeting at distance d as 1/d and f(x) = min(1, (x / x_max)^0.75). The vectors are
    w + u. What never meets is not looked at: small corpora teach `SkipGram` more.

    >>> from fathom.data import grammar
    >>> GloVe(width=8, epochs=2).fit(grammar(100, ("people",)).sentences).vectors.shape[1]
    8
    """

    def __init__(
        self,
        width: int = 32,
        window: int = 5,
        epochs: int = 50,
        batch_size: int = 512,
        lr: float = 0.05,
        x_max: float = 100.0,
        min_count: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(width, window, epochs, batch_size, lr, min_count, seed)
        if not x_max > 0:
            raise ArgumentError(f"GloVe: x_max must be > 0; received {x_max!r}")
        self.x_max = float(x_max)

    def fit(self, sentences: Sentences) -> Self:
        """Learn from sentences, each a list of words. Returns itself."""
        words, _, rows = self._read(sentences)
        first, second, meetings = _cooccurrences(rows, self.window, len(words))
        wanted = np.log(meetings).astype(np.float32)
        weight = np.minimum(1.0, (meetings / self.x_max) ** 0.75).astype(np.float32)
        random = Random(self.seed)
        # the last column of each row is its bias
        w, u = (self._start(len(words), random.stream("init"), self.width + 1) for _ in "wu")
        self.losses = []
        for _ in range(self.epochs):
            order = random.stream("shuffle").permutation(len(first))
            total = 0.0
            for start in range(0, len(order), self.batch_size):
                b = order[start : start + self.batch_size]
                total += self._learn(w, u, first[b], second[b], wanted[b], weight[b])
            self.losses.append(total / len(order))
        self._set(words, w.table[:, :-1] + u.table[:, :-1])
        return self

    def _learn(self, w: _Rows, u: _Rows, i: Any, j: Any, wanted: Any, weight: Any) -> float:
        """One step on pairs (n,); the sum of the losses."""
        leaf, used, a = w.take(i)  # (n, width + 1)
        other, seen, b = u.take(j)
        scores: Any = sum_(a[:, :-1] * b[:, :-1], -1) + a[:, -1] + b[:, -1]
        loss = sum_((scores - wanted) ** 2 * weight)
        loss.backward()
        w.step(leaf, used)
        u.step(other, seen)
        return float(loss.item())


def _cooccurrences(rows: Sequence[Any], window: int, count: int) -> tuple[Any, Any, Any]:
    """Pairs of words that meet, and how often: a meeting at distance d counts 1 / d."""
    first, second, distance = _pairs(rows, window)
    table = np.bincount(first * count + second, 1.0 / distance, count * count)
    met = np.flatnonzero(table)
    return met // count, met % count, table[met]
