"""BLEU and ROUGE: how much of a text stands in another. Texts are strings or lists of tokens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fathom.engine.errors import ArgumentError

Text = str | Sequence[Any]


def tokens(text: Text) -> list[Any]:
    """The words of a string, split at white space; a list as it is."""
    return text.split() if isinstance(text, str) else list(text)


def ngrams(words: Sequence[Any], n: int) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def bleu(
    candidates: Sequence[Text],
    references: Sequence[Sequence[Text]],
    max_n: int = 4,
    smooth: bool = False,
) -> float:
    """Corpus BLEU (Papineni et al., 2002): shared n-grams, clipped, times a brevity penalty.

    candidates : the texts; references : for each of them one or more. `smooth` adds one to the
    counts of n > 1 (Lin & Och, 2004), for short texts.

    >>> bleu(["the cat is on the mat"], [["the cat is on the mat"]])
    1.0
    >>> round(bleu(["the the the the"], [["the cat is on the mat"]], max_n=1), 4)  # 2/4 * e^-0.5
    0.3033
    """
    if isinstance(candidates, str) or len(candidates) != len(references):
        raise ArgumentError("bleu takes a list of texts and, for each, a list of references")
    if any(isinstance(refs, str) or not refs for refs in references):
        raise ArgumentError("each text needs a list with one reference or more")
    hits, total = [0] * max_n, [0] * max_n
    length = nearest = 0
    for candidate, several in zip(candidates, references, strict=True):
        words, refs = tokens(candidate), [tokens(r) for r in several]
        length += len(words)
        nearest += min((abs(len(r) - len(words)), len(r)) for r in refs)[1]
        for n in range(1, max_n + 1):
            own, most = ngrams(words, n), Counter[tuple[Any, ...]]()
            for r in refs:
                most |= ngrams(r, n)
            hits[n - 1] += (own & most).total()
            total[n - 1] += own.total()
    if smooth:
        hits, total = [hits[0], *(h + 1 for h in hits[1:])], [total[0], *(t + 1 for t in total[1:])]
    if not length or not all(hits):
        return 0.0
    mean = sum(math.log(h / t) for h, t in zip(hits, total, strict=True)) / max_n
    return math.exp(min(0.0, 1.0 - nearest / length) + mean)


def rouge_n(candidate: Text, reference: Text, n: int = 1) -> dict[str, float]:
    """Shared n-grams as precision, recall and F1 (Lin, 2004).

    >>> rouge_n("the cat sat", "the cat is here")["recall"]
    0.5
    """
    if n < 1:
        raise ArgumentError(f"rouge_n: n must be >= 1; received {n}")
    own, wanted = ngrams(tokens(candidate), n), ngrams(tokens(reference), n)
    return _scores((own & wanted).total(), own.total(), wanted.total())


def rouge_l(candidate: Text, reference: Text) -> dict[str, float]:
    """The longest common subsequence as precision, recall and F1 (Lin, 2004).

    >>> rouge_l("a b c d", "a c x d")["f1"]
    0.75
    """
    a, b = tokens(candidate), tokens(reference)
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, start=1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    return _scores(row[-1], len(a), len(b))


def _scores(shared: int, own: int, wanted: int) -> dict[str, float]:
    precision = shared / own if own else 0.0
    recall = shared / wanted if wanted else 0.0
    both = precision + recall
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / both if both else 0.0,
    }
