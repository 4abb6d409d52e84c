"""What an engine's side must do for watching and treatment; `fathom_adapter`, `fathom_patient`,
`torch_adapter` and `torch_patient` do it.

An `Adapter` fills a `Case` and tells a `Listener` what happens. A `Patient` is a copy of a run that
can be edited and trained without a trace in the original.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from fathom.doctor.case import NAN, Case, LossCall, Step
from fathom.doctor.finding import Edit


class Listener(Protocol):
    """What an adapter tells; `watching.Watch` listens."""

    def due(self, step: int) -> bool:
        """Asked once before each step: is it to be sampled?"""

    def loss_called(self, call: LossCall) -> None:
        """The loss was called in a sampled step, with gradients, before its backward pass."""

    def stepped(self, step: int, sample: Step | None) -> None:
        """The optimizer has made step number `step` (from 0); `sample`, if it was a sampled one."""

    def took(self, seconds: float) -> None:
        """So long did watching take just now."""


class Patient(Protocol):
    """A copy of a run: model, optimizer, loss, a few kept batches, and the habits of its loop."""

    def apply(self, edit: Edit) -> None:
        """Carry out an edit; raises `ArgumentError` where it cannot be done to this run."""

    def train(self, steps: int) -> list[float]:
        """The losses of so many further steps on the kept batches, in their order, over again."""

    def losses_at(self, rates: Sequence[float], batch: int = 0) -> list[float]:
        """Losses along a learning-rate range test: one step at each rate, on one batch."""

    def score(self) -> float:
        """The coarsest of `skills` that does not depend on the loss: accuracy less chance over
        1 - chance, or 1 - squared error over variance."""

    def output(self, change: Callable[[Any], Any] | None = None, batch: int = 0) -> Any:
        """What the model puts out in eval mode, as an array, for a batch, its inputs changed."""

    def skills(self, held: bool = False, examples: int = 512) -> dict[str, float]:
        """How good the answers are, by measure, on what it trains on or what is held out; see
        `scoring.skills`."""

    def answers(self, batches: Sequence[Any]) -> list[Any]:
        """(what the loss is given, target) of batches as arrays, in eval mode, after all edits."""

    def mean_loss(self, held: bool = False) -> float:
        """The loss itself, in eval mode."""

    def hold_out(self, part: int, parts: int = 4) -> None:
        """Set one part of the kept examples aside, not to be trained on."""

    def rows(self, batch: Any) -> int:
        """Examples in a batch; 0 where inputs and target do not tell."""

    def permute_targets(self) -> None:
        """Shuffle the targets among the kept examples."""

    def keep(self, batches: int, examples: int | None = None) -> None:
        """Go on with fewer batches, or with one of so many examples."""


class Adapter(Protocol):
    """One engine's side of a watched run."""

    case: Case

    def open(self, listener: Listener) -> None:
        """Attach what is needed; `case` has its layers, parameters and optimizer by now."""

    def close(self) -> None:
        """Take every hook and patch away again."""

    def losses(self) -> list[float]:
        """Losses of the steps since the last call, moved over in one go."""

    def patient(self, seed: int = 0, fresh: bool = True) -> Patient:
        """A copy of the run, from the weights it began with (fresh) or those it has now; raises
        `ArgumentError` where no batch was kept or the model cannot be copied."""


def rate_of(optimizer: Any) -> float:
    """The learning rate of the first group; nan where it is a tensor, which would be read back."""
    lr = optimizer.param_groups[0].get("lr") if optimizer is not None else None
    return lr if isinstance(lr, float) else NAN


__all__ = ["Adapter", "Listener", "Patient", "rate_of"]
