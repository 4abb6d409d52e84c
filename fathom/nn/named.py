"""Things by name with options: `"huber"`, `"huber:delta=0.5"`, `{"name": "huber", "delta": 0.5}`.

Losses, optimizers, schedules, augmentation, penalties and initial weights are all given so, in
Python, on the command line, and in specification files.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fathom.engine.errors import ArgumentError, suggest

COMMA = r",(?![^\[]*\])"  # not within a list


def named(value: Any, what: str = "name") -> tuple[str, dict[str, Any]]:
    """(name, options) of a text or a mapping; options of a text are JSON, else words.

    >>> named("huber:delta=0.5"), named({"name": "sgd", "momentum": 0.9})
    (('huber', {'delta': 0.5}), ('sgd', {'momentum': 0.9}))
    >>> named("step:milestones=[10,20],gamma=0.1")
    ('step', {'milestones': [10, 20], 'gamma': 0.1})
    """
    if isinstance(value, Mapping):
        options = {str(key): one for key, one in value.items()}
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise ArgumentError(
                f"{what}: the key 'name' is to be a text; received {dict(value)!r}",
                fix='{"name": "...", ...}',
            )
        return name, options
    name, colon, rest = str(value).partition(":")
    parts = re.split(COMMA, rest) if colon else []
    return name.strip(), dict(_option(part, what) for part in parts)


def _option(text: str, what: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ArgumentError(
            f"{what}: {text!r} is not an option KEY=VALUE", fix="NAME:KEY=VALUE,KEY=VALUE"
        )
    try:
        return key.strip(), json.loads(value)
    except ValueError:
        return key.strip(), value.strip()


def spelled(value: Any, what: str = "name") -> str:
    """The text of a name with options, as the command line takes it.

    >>> spelled({"name": "huber", "delta": 0.5})
    'huber:delta=0.5'
    """
    name, options = named(value, what)
    words = ",".join(
        f"{key}={one if isinstance(one, str) else json.dumps(one, separators=(',', ':'))}"
        for key, one in options.items()
    )
    return f"{name}:{words}" if words else name


def pick(known: Mapping[str, Any], name: str, what: str) -> Any:
    """The entry of that name, or an error with the nearest names."""
    key = name.lower().replace("-", "_")
    if key not in known:
        raise ArgumentError(f"unknown {what} {name!r}", fix=suggest(key, known))
    return known[key]


def build(make: Callable[..., Any], options: Mapping[str, Any], what: str) -> Any:
    """`make(**options)`, unknown options refused with those there are."""
    check_options(inspect.signature(make).parameters, options, what)
    try:
        return make(**options)
    except TypeError as error:
        raise ArgumentError(f"{what}: {error}") from None


def check_options(known: Iterable[str], options: Iterable[str], what: str) -> None:
    """Refuse options that are not among those known."""
    names = list(known)
    for key in options:
        if key not in names:
            fix = suggest(key, names) if names else "it has none"
            raise ArgumentError(f"{what} has no option {key!r}", fix=fix)
