"""Sentences made by rule, in which what words have in common can be learnt and is known.

Words stand in tables: kings and queens in rows of roles and columns of genders, countries and
their capitals, verbs and their tenses. A sentence says something that holds for the word's row
and something that holds for its column, and nothing else. Whoever learns words from their
company (Firth, 1957) should find that queen is to king as woman is to man.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from fathom.data._checks import listing, whole
from fathom.engine.errors import ArgumentError
from fathom.engine.random import Random

Phrases = tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """A table of words: each row and each column has phrases of its own.

    `template` puts a word, a phrase of its row and one of its column into a sentence. `rows`
    maps the words of a row, with a space between, to its phrases.
    """

    name: str
    template: str
    rows: dict[str, Phrases]
    columns: tuple[Phrases, ...]

    @property
    def words(self) -> tuple[tuple[str, ...], ...]:
        """The table, (rows, columns)."""
        return tuple(tuple(row.split()) for row in self.rows)

    def analogies(self) -> Iterator[tuple[str, str, str, str]]:
        """All (a, b, c, d) with a - b + c = d: king - man + woman = queen."""
        table = self.words
        for first, second in permutations(table, 2):
            for i, j in permutations(range(len(self.columns)), 2):
                yield first[i], second[i], second[j], first[j]


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "people",
            "the {word} {row} and {column}",
            {
                "king queen": ("rules the land", "wears the crown", "sits on the throne"),
                "prince princess": ("inherits the castle", "learns at court", "awaits the crown"),
                "man woman": ("works in the office", "drives a car", "pays the rent"),
                "boy girl": ("plays in the yard", "goes to school", "collects toys"),
                "actor actress": ("learns the script", "stands on stage", "hears applause"),
                "waiter waitress": ("serves the soup", "clears the tables", "brings the menu"),
            },
            (
                ("he combs his beard", "he is a gentleman", "his brother admires him"),
                ("she combs her curls", "she is a lady", "her sister admires her"),
            ),
        ),
        Family(
            "places",
            "{word} {column} where they {row}",
            {
                "france paris": ("speak french", "bake baguettes", "love champagne"),
                "germany berlin": ("speak german", "salt pretzels", "love football"),
                "italy rome": ("speak italian", "cook pasta", "love opera"),
                "spain madrid": ("speak spanish", "dance flamenco", "love siestas"),
                "japan tokyo": ("speak japanese", "fold origami", "love sushi"),
                "egypt cairo": ("speak arabic", "ride camels", "love pharaohs"),
            },
            (
                ("is a nation with borders", "has an army", "is a state with provinces"),
                ("is a city with suburbs", "has a mayor", "is a town with streets"),
            ),
        ),
        Family(
            "verbs",
            "{column} we {word} {row}",
            {
                "sing sang": ("a song", "with the choir", "a melody"),
                "eat ate": ("an apple", "with a spoon", "for dinner"),
                "swim swam": ("across the lake", "with dolphins", "under water"),
                "write wrote": ("a letter", "with a pen", "on paper"),
                "fly flew": ("through clouds", "with wings", "a kite"),
                "build built": ("a wall", "with bricks", "from timber"),
            },
            (
                ("today", "every morning", "nowadays"),
                ("yesterday", "long ago", "last year"),
            ),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """Sentences as tuples of words, and the analogies (a, b, c, d), a - b + c = d, they hold."""

    sentences: tuple[tuple[str, ...], ...]
    analogies: tuple[tuple[str, str, str, str], ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The different words, in alphabetical order."""
        return tuple(sorted({word for sentence in self.sentences for word in sentence}))

    def __len__(self) -> int:
        return len(self.sentences)

    def __repr__(self) -> str:
        return (
            f"Corpus({len(self):,} sentences, {len(self.words)} words, "
            f"{len(self.analogies)} analogies)"
        )


def grammar(
    n: int = 2000, families: tuple[str, ...] = ("people", "places", "verbs"), seed: int = 0
) -> Corpus:
    """n sentences of the families "people", "places" and "verbs", each word about as often.

    Raises `ArgumentError` for a family there is not.

    >>> corpus = grammar(600)
    >>> corpus
    Corpus(600 sentences, 165 words, 180 analogies)
    >>> " ".join(grammar(3, ("people",), seed=1).sentences[0])
    'the queen sits on the throne and she combs her curls'
    >>> ("king", "man", "woman", "queen") in corpus.analogies
    True
    """
    unknown = [name for name in families if name not in FAMILIES]
    if unknown or not families:
        raise ArgumentError(
            f"grammar: families are some of {listing(FAMILIES)}; received {listing(families)}"
        )
    tables = [FAMILIES[name] for name in families]
    cells = [
        (table, row, column)
        for table in tables
        for row in range(len(table.rows))
        for column in range(len(table.columns))
    ]
    stream = Random(seed).stream("data")
    count = whole(n, "n")
    places = stream.permutation(count) % len(cells)
    draws = stream.uniform((count, 2))
    sentences = (_sentence(*cells[place], *draw) for place, draw in zip(places, draws, strict=True))
    return Corpus(tuple(sentences), tuple(q for table in tables for q in table.analogies()))


def _sentence(table: Family, row: int, column: int, u: float, v: float) -> tuple[str, ...]:
    """The word of a cell with a phrase of its row and one of its column; u, v in [0, 1) choose."""
    about_row, about_column = list(table.rows.values())[row], table.columns[column]
    text = table.template.format(
        word=table.words[row][column],
        row=about_row[int(u * len(about_row))],
        column=about_column[int(v * len(about_column))],
    )
    return tuple(text.split())
