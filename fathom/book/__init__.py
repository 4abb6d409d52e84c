"""The book: questions of a deep-learning textbook, answered by experiment.

Every claim is checked by a function, and its verdict is computed from the numbers by a rule
stated beforehand. `fathom book --help` runs it; `docs/book.md` says how to add a question.
"""

from fathom.book.evidence import (
    All,
    Check,
    Evidence,
    NotMeasurable,
    Published,
    Routes,
    Sample,
    Settings,
    Source,
)
from fathom.book.figure import Axis, Bars, Figure, Heat, Level, Line, band
from fathom.book.lab import Lab, once
from fathom.book.question import Claim, Question
from fathom.book.region import Region, at_least, at_most, equals, true, within
from fathom.book.text import T
from fathom.book.verdict import Decision, Verdict, decide

__all__ = [
    "All", "Axis", "Bars", "Check", "Claim", "Decision", "Evidence", "Figure", "Heat", "Lab",
    "Level", "Line", "NotMeasurable", "Published", "Question", "Region", "Routes", "Sample",
    "Settings", "Source", "T", "Verdict", "at_least", "at_most", "band", "decide", "equals",
    "once", "true", "within",
]  # fmt: skip
