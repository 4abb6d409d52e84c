"""`ask`: the questions nearest to free words, English or Chinese.

SQLite's full-text index (FTS5, BM25) in memory; English words are stemmed by it, Chinese text is
cut into pairs of characters, which finds words without a dictionary.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable

from fathom.book.catalogue import catalogue
from fathom.book.question import Question

COLUMNS = ("title", "topics", "answer", "claims")
WEIGHTS = (8.0, 6.0, 2.0, 1.0)
IDLE = frozenset(
    "a an and are as at be but by can do does for from how i in is it its my of on or should so "
    "that the then there this to use was what when where which who why will with you".split()
)


def ask(words: str, most: int = 5) -> list[tuple[Question, float]]:
    """The best questions and how well they fit (larger is better), at most `most`.

    >>> found, score = ask("why does sigmoid make gradients vanish")[0]
    >>> "sigmoid" in found.title.en.lower()
    True
    """
    terms = [t for t in _terms(words) if t not in IDLE]
    if not terms:
        return []
    query = " OR ".join(f'"{term}"' for term in dict.fromkeys(terms))
    with _index() as index:
        rows = index.execute(
            f"SELECT id, -bm25(book, 0, {', '.join(map(str, WEIGHTS))}) AS score "
            "FROM book WHERE book MATCH ? ORDER BY score DESC LIMIT ?",
            (query, most),
        ).fetchall()
    return [(catalogue()[id], float(score)) for id, score in rows]


def _index() -> sqlite3.Connection:
    index = sqlite3.connect(":memory:")
    index.execute(
        f"CREATE VIRTUAL TABLE book USING fts5(id UNINDEXED, {', '.join(COLUMNS)}, "
        "tokenize='porter unicode61')"
    )
    index.executemany("INSERT INTO book VALUES (?, ?, ?, ?, ?)", map(_row, catalogue().values()))
    return index


def _row(q: Question) -> tuple[str, ...]:
    claims = (text for claim in q.claims.values() for text in claim.text)
    parts: tuple[Iterable[str], ...] = (q.title, q.topics, (*q.answer, *q.flips), claims)
    return (q.id, *(" ".join(_terms(" ".join(part))) for part in parts))


def _terms(text: str) -> list[str]:
    """Words of letters and digits, and pairs of neighbouring Chinese characters.

    >>> _terms("ReLU 死亡问题")
    ['relu', '死亡', '亡问', '问题']
    """
    found = []
    for run in re.findall(r"[一-鿿]+|[^\W_一-鿿]+", text.lower()):
        chinese = "一" <= run[0] <= "鿿"
        if chinese and len(run) > 1:
            found += [run[i : i + 2] for i in range(len(run) - 1)]
        else:
            found.append(run)
    return found
