"""The questions and their claims, in the order of the book.

A module in `fathom.book.questions` is a question; adding one is adding a file.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType

from fathom.book import questions as folder
from fathom.book.question import Claim, Question
from fathom.book.text import T
from fathom.engine.errors import ArgumentError

PARTS = {
    "2": T("Networks and how they learn", "神经网络及其学习"),
    "2.1": T("Neurons, perceptrons, and what layers add", "神经元、感知机与多层网络"),
    "2.2": T("Feed-forward networks and their training", "前馈网络及其训练"),
    "2.3": T("Backpropagation and optimization", "反向传播与优化"),
    "3": T("Activation functions", "激活函数"),
    "3.1": T("What an activation is for", "激活函数的作用与性质"),
    "3.2": T("The classics: sigmoid, tanh, the ReLU family", "经典：Sigmoid、Tanh 与 ReLU 家族"),
    "3.3": T("The newer ones: GELU, Swish, softmax and kin", "新一代：GELU、Swish、Softmax 及同类"),
    "3.4": T("Choosing one", "如何选择"),
    "S": T("Supplement: gradients, normalization and other basics", "补充：梯度、归一化与其他基础"),
}  # fmt: skip  # what chapters and sections are about


@cache
def catalogue() -> dict[str, Question]:
    """All questions by id, in the book's order."""
    found = [module.question for module in _modules().values()]
    return {q.id: q for q in sorted(found, key=lambda q: q.order)}


@cache
def _modules() -> dict[str, ModuleType]:
    """The question modules by the id of their question."""
    names = [m.name for m in pkgutil.iter_modules(folder.__path__) if m.name.startswith("q")]
    modules = [importlib.import_module(f"{folder.__name__}.{name}") for name in names]
    return {module.question.id: module for module in modules}


def question(id: str) -> Question:
    """The question of that id ("2.1.8", "S.3"); an error names the nearest one."""
    known = catalogue()
    if id not in known:
        near = difflib.get_close_matches(id, known, 1)
        hint = f"did you mean {near[0]}?" if near else "fathom book list shows all of them"
        raise ArgumentError(f"there is no question {id!r}", fix=hint)
    return known[id]


def claim(id: str) -> tuple[Question, Claim]:
    """The claim of that id ("C2.1.8-01") and its question."""
    for found in catalogue().values():
        if id in found.claims:
            return found, found.claims[id]
    known = [name for q in catalogue().values() for name in q.claims]
    near = difflib.get_close_matches(id, known, 1)
    hint = f"did you mean {near[0]}?" if near else "fathom book show Q lists a question's claims"
    raise ArgumentError(f"there is no claim {id!r}", fix=hint)


def select(ids: Iterable[str]) -> list[Question]:
    """Questions named by id, section ("2.1"), chapter ("3") or claim, in the book's order."""
    chosen: dict[str, Question] = {}
    for id in ids:
        part = [q for q in catalogue().values() if id in (q.section, q.chapter)]
        if not part:
            part = [claim(id)[0]] if id.startswith("C") else [question(id)]
        chosen |= {q.id: q for q in part}
    return sorted(chosen.values(), key=lambda q: q.order)


@cache
def digest(id: str) -> str:
    """A hash of the question's code and of the book's own code that it runs on."""
    whole = hashlib.blake2b(digest_size=12)
    here = Path(__file__).parent
    shared = [*here.glob("*.py"), *(here / "material").glob("*.py")]
    own = Path(inspect.getsourcefile(_modules()[id]) or "")
    for path in [own, *sorted(p for p in shared if p.name not in UNRELATED)]:
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


UNRELATED = frozenset(
    f"{name}.py"
    for name in "catalogue draw ledger lettering runner scale search shapes site".split()
)  # modules on which no number depends
