"""Training steps and forward passes as plans: when that is safe, when worth it, and if it fails."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from fathom.compile import EagerWarning, TraceError
from fathom.compile.function import MANY, Compiled
from fathom.compile.observe import on_modules
from fathom.engine.errors import DivergedError
from fathom.engine.modes import MODE
from fathom.engine.tensor import Array, Tensor, warn_once
from fathom.nn.module import Module

if TYPE_CHECKING:
    from fathom.train.trainer import Trainer

Wanted = bool | Literal["auto"]
WORTH = 16  # batches (of an epoch, or of one shape) from which the time to compile is won back


def obstacle(model: Module, wanted: bool, *others: Any) -> str:
    """Why what is done with a model is not compiled; "" if it is.

    What only runs Fathom's own code can be replayed. A module, loss or penalty of the user's own
    may do more than compute (count, print, decide), so it is compiled only if the user says so.
    Hooks of `doctor.record` are served by plans, others are not.
    """
    if any(not hasattr(hook, "watcher") for hook in on_modules(model.modules())):
        return "a module has hooks"
    if MODE.get().special is not None:
        return "operations are watched"
    if wanted:
        return ""
    for part in (*model.modules(), *others):
        if part is not None and not _ours(part):
            kind = getattr(part, "__name__", type(part).__name__)
            return f"{kind} is not Fathom's: compile=True if it only computes"
    return ""


def step_obstacle(trainer: Trainer, wanted: bool) -> str:
    """Why the steps of a run are not compiled; "" if they are."""
    if trainer.optimizer.needs_closure:
        return f"{type(trainer.optimizer).__name__} evaluates the loss itself"
    if trainer.accumulate > 1:
        return "gradients are accumulated over several batches"
    return obstacle(trainer.model, wanted, trainer.loss, trainer.penalty, trainer.optimizer)


def worth(trainer: Trainer, wanted: bool) -> bool:
    """Whether the time to compile is won back; it must not depend on the number of epochs, so
    that a run that is resumed does what an unbroken one does."""
    return wanted or trainer.batches >= WORTH


def _ours(part: Any) -> bool:
    """Whether code is part of Fathom."""
    part = getattr(part, "__wrapped__", part)
    home = part.__module__ if callable(part) and not isinstance(part, Module) else ""
    return (home or type(part).__module__).split(".")[0] == "fathom"


def tell_eager(what: str, reason: str) -> None:
    """Say, once for a line of the user's, why something runs without a plan."""
    warn_once(EagerWarning, f"{what} is not compiled: {reason}")


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


class Forward:
    """A model's outputs for batches, by a plan for each shape that comes often enough.

    It is kept at its model, with its plans; copies of the model begin without.
    """

    def __init__(self, model: Module) -> None:
        self.model = model
        self.compiled = Compiled(self.whole)
        self.batches: dict[Any, int] = {}  # of each shape, so far
        self.planned: set[Any] = set()  # shapes that have a plan
        self.failed = ""
        self.lock = Lock()  # a plan computes in memory of its own

    def whole(self, x: Any) -> Tensor:
        """The forward pass."""
        output: Tensor = self.model(Tensor(x))
        return output

    def expect(self, x: Array, size: int, wanted: Wanted) -> str:
        """Count the batches to come, and choose the shapes that are compiled; or why none is."""
        if wanted is False:
            return ""
        full, rest = divmod(len(x), size)
        often = []
        for rows, count in ((size, full), (rest, int(rest > 0))):
            key = (rows, *x.shape[1:], x.dtype)
            self.batches[key] = self.batches.get(key, 0) + count
            if count and (wanted is True or self.batches[key] >= WORTH):
                often.append(key)
        if len(self.batches) > 64:
            del self.batches[next(iter(self.batches))]
        if not often:
            return ""
        reason = self.failed or obstacle(self.model, wanted is True)
        if not reason:
            self.planned.update(often[: MANY - 1 - len(self.planned)])
        return reason

    def __call__(self, x: Array, eager: bool) -> Array:
        """The outputs for a batch; `eager` says that no plan may be used."""
        planned = not eager and not self.failed and (*x.shape, x.dtype) in self.planned
        if planned and self.lock.acquire(blocking=False):
            try:
                found: Array = self.compiled(x).value()
                return found
            except (TraceError, NotImplementedError) as error:
                self.failed = str(error).partition("\n")[0]
                tell_eager("the forward pass", self.failed)
            finally:
                self.lock.release()
        return self.whole(x).value()

    def __reduce__(self) -> Any:
        return type(None), ()


def forward_of(model: Module) -> Forward:
    """The forward pass of a model, with the plans it has."""
    found = vars(model).get("_forward")
    if not isinstance(found, Forward) or found.model is not model:
        found = Forward(model)
        object.__setattr__(model, "_forward", found)
    return found


__all__ = [
    "FastStep",
    "Forward",
    "Wanted",
    "forward_of",
    "obstacle",
    "step_obstacle",
    "tell_eager",
    "worth",
]
