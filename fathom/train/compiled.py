"""The training step as a plan: when it is safe, what it computes, and what to do when it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fathom.compile import TraceError
from fathom.compile.function import Compiled
from fathom.engine.errors import DivergedError
from fathom.engine.modes import MODE
from fathom.engine.tensor import Array, Tensor
from fathom.nn.module import Module

if TYPE_CHECKING:
    from fathom.train.trainer import Trainer

WORTH = 16  # batches in an epoch from which the time to compile is soon won back


def obstacle(trainer: Trainer, wanted: bool) -> str:
    """Why the steps of a run are not compiled; "" if they are.

    What only runs Fathom's own code can be replayed. A module, loss or penalty of the user's own
    may do more than compute (count, print, decide), so it is compiled only if the user says so.
    """
    if trainer.optimizer.needs_closure:
        return f"{type(trainer.optimizer).__name__} evaluates the loss itself"
    if trainer.accumulate > 1:
        return "gradients are accumulated over several batches"
    if any(m._hooks or m._pre_hooks or m._backward_hooks for m in trainer.model.modules()):
        return "a module has hooks"
    if MODE.get().special is not None:
        return "operations are watched"
    if wanted:
        return ""
    for part in (*trainer.model.modules(), trainer.loss, trainer.penalty, trainer.optimizer):
        if part is not None and not _ours(part):
            kind = getattr(part, "__name__", type(part).__name__)
            return f"{kind} is not Fathom's: fit(compile=True) if it only computes"
    return ""


def worth(trainer: Trainer, wanted: bool) -> bool:
    """Whether the time to compile is won back; it must not depend on the number of epochs, so
    that a run that is resumed does what an unbroken one does."""
    return wanted or trainer.batches >= WORTH


def _ours(part: Any) -> bool:
    """Whether code is part of Fathom."""
    part = getattr(part, "__wrapped__", part)
    home = part.__module__ if callable(part) and not isinstance(part, Module) else ""
    return (home or type(part).__module__).split(".")[0] == "fathom"


class FastStep:
    """One step of a trainer, compiled: `step(x, y, w) -> (loss, output)`."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.compiled = Compiled(self.whole)
        self.rows = trainer.loader.batch_size
        self.failed = ""

    def whole(self, x: Any, y: Any, w: Any) -> tuple[Tensor, Tensor]:
        """What the eager loop does for a batch, from zero_grad to the update."""
        t = self.trainer
        t.optimizer.zero_grad()
        output = t.model(Tensor(x))
        loss = t.loss_of(output, y, w)
        loss.backward()
        t.clip()
        t.optimizer.step()
        return loss.detach(), output.detach()

    def takes(self, x: Array) -> bool:
        """Whether a batch is of the size that is compiled; the last of an epoch is not worth it."""
        return not self.failed and len(x) == self.rows and MODE.get().special is None

    def __call__(self, x: Array, y: Array, w: Array | None) -> tuple[float, Array] | None:
        """Loss and output of a step, or None if it could not be compiled (nothing has changed)."""
        try:
            loss, output = self.compiled(x, y, w)
        except DivergedError:
            t = self.trainer
            t.check(float(t.loss_of(t.model(Tensor(x)), y, w).item()))
            raise t.diverged("the gradients or the update are not finite") from None
        except (TraceError, NotImplementedError) as error:
            self.failed = str(error).partition("\n")[0]
            return None
        return float(loss.item()), output.value()

    @property
    def engine(self) -> str:
        """What runs the steps: "native", "numpy" or "eager"."""
        if self.failed or not self.compiled.plans:
            return "eager"
        return "native" if self.compiled.native else "numpy"


__all__ = ["FastStep", "obstacle", "worth"]
