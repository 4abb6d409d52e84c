"""Reading back a stored mapping entry by entry, each checked and named in errors."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from fathom.engine.errors import DataError, suggest


class Stored:
    """A mapping from a file, with its place in it.

    >>> Stored({"scale": 2}, "preprocessor").positive("scale")
    2.0
    >>> Stored({"scale": "x"}, "preprocessor").positive("scale")
    Traceback (most recent call last):
    fathom.engine.errors.DataError: preprocessor.scale: expected a number above 0, got 'x'
    """

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, Mapping):
            raise DataError(f"{where}: expected a mapping, got {_short(values)}")
        self.values, self.where = values, where

    def get(self, key: str) -> Any:
        """The value of `key`, which must be there."""
        if key not in self.values:
            raise DataError(f"{self.where}: the entry {key!r} is missing")
        return self.values[key]

    def fail(self, key: str, expected: str) -> DataError:
        """The error that says what `key` should have been."""
        return DataError(f"{self.where}.{key}: expected {expected}, got {_short(self.get(key))}")

    def exactly(self, key: str, expected: object) -> None:
        """Insist on one value."""
        if self.get(key) != expected or type(self.get(key)) is not type(expected):
            raise self.fail(key, repr(expected))

    def text(self, key: str) -> str:
        """A string."""
        value = self.get(key)
        if not isinstance(value, str):
            raise self.fail(key, "a text")
        return value

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.fail(key, "true or false")
        return value

    def number(self, key: str) -> float:
        """A finite number."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(key, "a finite number")
        if not abs(value) < math.inf or abs(value) > 1e300:
            raise self.fail(key, "a finite number")
        return float(value)

    def positive(self, key: str) -> float:
        """A finite number above 0."""
        value = self.get(key)
        if isinstance(value, str) or self.number(key) <= 0:
            raise self.fail(key, "a number above 0")
        return self.number(key)

    def one_of(self, key: str, known: Collection[str]) -> str:
        """One of the known words."""
        value = self.text(key)
        if value not in known:
            raise DataError(f"{self.where}.{key}: unknown {value!r}", fix=suggest(value, known))
        return value

    def texts(self, key: str, unique: bool = False) -> tuple[str, ...]:
        """A list of strings, all different if `unique`."""
        value = self.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fail(key, "a list of texts")
        if unique and len(set(value)) != len(value):
            raise self.fail(key, "texts that are all different")
        return tuple(value)

    def entry(self, key: str) -> Stored | None:
        """A mapping, or None."""
        value = self.get(key)
        return None if value is None else Stored(value, f"{self.where}.{key}")

    def entries(self, key: str) -> list[Stored]:
        """A list of mappings."""
        value = self.get(key)
        if not isinstance(value, list):
            raise self.fail(key, "a list")
        return [Stored(item, f"{self.where}.{key}[{i}]") for i, item in enumerate(value)]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
