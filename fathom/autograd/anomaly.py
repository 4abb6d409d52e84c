"""Anomaly mode: the first value that is not finite, by operation, line and layer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fathom.engine.backward import CHECK
from fathom.engine.errors import ArgumentError, FathomError
from fathom.engine.levels import watching
from fathom.engine.modes import MODE
from fathom.engine.primitive import record
from fathom.engine.tape import Node
from fathom.engine.tensor import Tensor, describe_site, user_site


class AnomalyError(FathomError, ArithmeticError):
    """An operation made infinity or nan out of finite numbers."""


@dataclass(frozen=True)
class Anomaly:
    """Where a value stopped being finite."""

    direction: str  # "forward" or "backward"
    operation: str
    site: str
    layer: str
    value: str  # "nan", "inf" or "-inf"
    shapes: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        where = f" in layer {self.layer}" if self.layer else ""
        what = "put out" if self.direction == "forward" else "passed back"
        return f"{self.operation} ({self.site}){where} {what} {self.value} from finite values"


_FIXES = {
    "log": "log(0) is -inf: clip the input from below, or compute in logits (log_softmax)",
    "div": "a division by zero: add a small number to the denominator",
    "sqrt": "the slope of sqrt at 0 is infinite: sqrt(x + 1e-12)",
    "exp": "exp overflows above 88 in float32: subtract the maximum first",
    "where": "the branch not taken still sends its gradient: make its input safe inside where too",
}


@contextmanager
def detect_anomaly(mode: str = "raise") -> Iterator[list[Anomaly]]:
    """Look at every value, forward and backward, for the first that is not finite.

    With "raise" an `AnomalyError` stops there; with "record" the block goes on and the list it
    yields fills up. An operation is only blamed if what went in was finite. Slow: for finding.

    >>> import fathom
    >>> with detect_anomaly("record") as found:
    ...     y = fathom.log(fathom.tensor([1.0, 0.0]) * 2) + 1
    >>> [a.operation for a in found]
    ['log']
    """
    if mode not in ("raise", "record"):
        raise ArgumentError(f"detect_anomaly: mode is 'raise' or 'record'; received {mode!r}")
    found: list[Anomaly] = []

    def report(anomaly: Anomaly) -> None:
        found.append(anomaly)
        if mode == "raise":
            name = anomaly.operation
            fix = "a slope that is infinite here: keep the input away from that point"
            located = replace(anomaly, layer="") if anomaly.direction == "forward" else anomaly
            raise AnomalyError(str(located), fix=_FIXES.get(name, fix))  # modules add their path

    def watch(primitive: Any, args: Any, params: Any, grad: bool) -> Any:
        run = record if outer is None else outer
        out = run(primitive, args, params, grad)
        first = out[0] if isinstance(out, tuple) else out
        layer = current_layer()
        if isinstance(first, Tensor) and first.edge is not None:
            first.edge[0].layer = layer
        bad = _bad(out)
        if bad and not _bad(args):
            shapes = tuple(np.shape(a) if not isinstance(a, Tensor) else a.shape for a in args)
            site = describe_site(user_site())
            report(Anomaly("forward", primitive.name, site, layer, bad, shapes))
        return out

    def check(node: Node, gradient: Any, results: Any) -> None:
        bad = _bad(results)
        if bad and not _bad(gradient):
            site, name = describe_site(node.site), node.primitive.name
            shapes = tuple(r.shape for r in results if r is not None)
            report(Anomaly("backward", name, site, node.layer, bad, shapes))

    outer = MODE.get().watch
    token = CHECK.set(check)
    try:
        with watching(watch):
            yield found
    finally:
        CHECK.reset(token)


def _bad(values: Any) -> str:
    """'nan', 'inf' or '-inf' if any value is, else ''."""
    for value in values if isinstance(values, (tuple, list)) else (values,):
        array = value.value() if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            if np.isnan(array).any():
                return "nan"
            return "inf" if np.isposinf(array).any() else "-inf"
    return ""


def current_layer() -> str:
    """The dotted path of the module whose `forward` is running, read off the call stack."""
    modules: list[Any] = []
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "__call__" and "self" in frame.f_locals:
            owner = frame.f_locals["self"]
            if hasattr(owner, "named_modules") and owner not in modules:
                modules.append(owner)
        frame = frame.f_back
    if not modules:
        return ""
    names = {id(m): n for n, m in modules[-1].named_modules()}
    kind = type(modules[0]).__name__
    path = names.get(id(modules[0]), "")
    return f"{path} ({kind})" if path else kind
