"""Eager and compiled, side by side: the same training twice, and everything compared.

    check_training(lambda: nn.Linear(3, 2), [x], backend="numpy")

The NumPy back end must give the same bits; native code sums in another order and has its own
exp and tanh, so it gets a tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.compile.function import native_wanted

BACKENDS = ["numpy", "native"] if native_wanted() else ["numpy"]  # FATHOM_NATIVE=0: NumPy alone
LONGEST = 100  # steps


class Training:
    """A layer (or any module) with inputs that learn too, a loss, and an optimizer."""

    def __init__(
        self,
        make: Callable[[], nn.Module],
        arrays: Sequence[Any],
        options: dict[str, Any] | None = None,
        loss: Callable[..., Any] | None = None,
        optimizer: Callable[[Any], Any] | None = None,
    ) -> None:
        self.layer, self.options, self.loss = make(), options or {}, loss
        self.inputs = [
            fathom.Tensor(a.astype(np.float32), True) if a.dtype.kind == "f" else fathom.Tensor(a)
            for a in map(np.asarray, arrays)
        ]
        learning = [*self.layer.parameters(), *(x for x in self.inputs if x.requires_grad)]
        learning = [p for p in learning if p.requires_grad]
        make_optimizer = optimizer or (lambda ps: fathom.optim.SGD(ps, lr=0.01, momentum=0.9))
        self.optimizer = make_optimizer(learning) if learning else None

    def step(self) -> Any:
        if self.optimizer is not None:
            self.optimizer.zero_grad()
        outs = flat(self.layer(*self.inputs, **self.options))
        shown = [o.detach().clone() for o in outs]
        wanted = [o for o in outs if o.requires_grad]
        if wanted:
            loss = (
                self.loss(*wanted) if self.loss else sum((o * o).mean() + o.sum() for o in wanted)
            )
            loss.backward()
            self.optimizer.step()
            shown.append(loss.detach())
        return shown

    def state(self) -> dict[str, Any]:
        """All that a step may change."""
        found = {k: np.array(v) for k, v in self.layer.state_dict().items()}
        found |= {f"input {i}": np.array(x.value()) for i, x in enumerate(self.inputs)}
        for name, p in self.layer.named_parameters():
            found[f"{name}.grad"] = None if p.grad is None else np.array(p.grad.value())
        return found


def flat(tree: Any) -> list[Any]:
    """The tensors of an output."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (tuple, list)):
        return [leaf for part in tree for leaf in flat(part)]
    return [] if tree is None else [tree]


def check_training(
    make: Callable[[], nn.Module],
    arrays: Sequence[Any],
    options: dict[str, Any] | None = None,
    *,
    backend: str = "numpy",
    loss: Callable[..., Any] | None = None,
    optimizer: Callable[[Any], Any] | None = None,
    steps: int = 3,
    long: int = 0,
    plans: int = 1,
    close: float = 0.0,
) -> Any:
    """Train twice, eager and compiled, and compare; returns the compiled step.

    close : relative tolerance; 0 means bit for bit (native code is always given 1e-5).
    long : steps after which the loss is compared once more: the same bits, or 1e-4 native.
    plans : how many there may be at most.
    """
    both = []
    for _ in range(2):
        with fathom.seed(1):
            both.append(Training(make, arrays, options, loss, optimizer))
    eager, other = both
    compiled = fathom.compile(other.step, backend=backend)
    first, second = fathom.Random(3), fathom.Random(3)
    tolerance = max(close, 1e-5 if backend == "native" else 0.0)
    for number in range(steps):
        with fathom.random.use(first):
            wanted = eager.step()
        with fathom.random.use(second):
            found = compiled()
        where = f"step {number}"
        assert len(wanted) == len(found)
        for i, (a, b) in enumerate(zip(wanted, found, strict=True)):
            alike(a.value(), b.value(), tolerance, f"{where}, output {i}")
        before, after = eager.state(), other.state()
        assert before.keys() == after.keys()
        for key in before:
            alike(before[key], after[key], tolerance, f"{where}, {key}")
        assert first.state_dict() == second.state_dict(), f"{where}: random streams"
    for _ in range(steps, min(long, LONGEST)):
        with fathom.random.use(first):
            wanted = eager.step()
        with fathom.random.use(second):
            found = compiled()
    if long:
        last = [float(part[-1].item()) for part in (wanted, found)]
        near = {"rtol": 1e-4, "atol": 1e-6} if tolerance else {"rtol": 0.0}
        np.testing.assert_allclose(last[1], last[0], **near)
    assert len(compiled.plans) <= plans, compiled.traces
    return compiled


def alike(a: Any, b: Any, tolerance: float, what: str) -> None:
    """The same bits, or within a tolerance relative to the largest element."""
    assert (a is None) == (b is None), what
    if a is None:
        return
    assert a.shape == b.shape and a.dtype == b.dtype, (
        f"{what}: {a.dtype}{a.shape} {b.dtype}{b.shape}"
    )
    if a.dtype.kind != "f" or not tolerance:
        assert a.tobytes() == b.tobytes(), f"{what}: {a.reshape(-1)[:5]} {b.reshape(-1)[:5]}"
        return
    finite = np.isfinite(a)
    size = max(float(np.abs(a[finite]).max(initial=0.0)), 1.0)
    np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * size, err_msg=what)
