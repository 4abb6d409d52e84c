"""Words in a drawing: how wide they are, about, and where they break."""

from __future__ import annotations

import re

SIZE, LINE = 12.5, 16.0  # of letters, of lines of text, in pixels
THIN, BROAD = frozenset("iljtfrI.,:;|!'()[] ·"), frozenset("mwMW@%—–×+−=<>~")
TOKENS = re.compile(r"[^\s⺀-￿]+\s*|[⺀-￿]\s*|\s+")
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def width(text: str, size: float) -> float:
    """About how wide a text is in the fonts browsers use, rather more than less."""
    return size * sum(map(_em, text))


def _em(letter: str) -> float:
    if letter >= "⺀":
        return 1.0
    if letter in THIN:
        return 0.36
    if letter in BROAD:
        return 0.9
    return 0.7 if letter.isupper() else 0.61


def wrap(text: str, limit: float, size: float) -> list[str]:
    """Lines no wider than the limit, unless one word is; Chinese breaks at any character.

    >>> wrap("gradient of the first layer", 100, 12)
    ['gradient of the', 'first layer']
    """
    lines = [""]
    for token in TOKENS.findall(text):
        if lines[-1] and width((lines[-1] + token).rstrip(), size) > limit:
            lines.append("")
        lines[-1] += token
    return [line.rstrip() for line in lines]


def raised(text: str) -> str:
    """Powers as one writes them.

    >>> raised("1/N^2 and 10^-12, but N^2.5")
    '1/N² and 10⁻¹², but N^2.5'
    """
    return re.sub(r"\^(-?\d+)(?!\.?\d)", lambda found: found[1].translate(RAISED), text)
