"""`treat` on planted faults: the right fix is proven, a wrong one not, and nothing is touched."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from fathom.doctor.finding import Edit, Finding, Fix  # noqa: E402
from fathom.doctor.remedies import REMEDIES, candidates  # noqa: E402
from fathom.doctor.rules import RULES  # noqa: E402
from fathom.doctor.treatment import ACTIONS, treat  # noqa: E402
from fathom.doctor.trial import Course, Trial, better, stopped  # noqa: E402
from fathom.doctor.watching import Watch, watch  # noqa: E402


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


def blobs(n: int = 320, classes: int = 4, spread: float = 1.6) -> tuple[Any, Any]:
    draw = np.random.default_rng(1)
    centres = 1.2 * draw.normal(size=(classes, 10))
    y = draw.integers(0, classes, n)
    x = centres[y] + spread * draw.normal(size=(n, 10))
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def waves(n: int = 320) -> tuple[Any, Any]:
    x = np.random.default_rng(1).uniform(-2, 2, (n, 3))
    y = np.sin(2 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2]
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y[:, None], dtype=torch.float32)


def yes_no() -> tuple[Any, Any]:
    x, y = blobs(classes=2)
    return x, y[:, None].float()


def shuffled() -> tuple[Any, Any]:
    x, y = blobs()
    return x, y[torch.randperm(len(y), generator=torch.Generator().manual_seed(3))]


def mlp(
    inputs: int = 10, outputs: int = 4, act: Any = nn.ReLU, tail: tuple[Any, ...] = (),
    depth: int = 2, norm: bool = False, drop: float = 0.0,
) -> Any:  # fmt: skip
    layers: list[Any] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, 24), *([nn.BatchNorm1d(24)] if norm else []), act()]
        layers += [nn.Dropout(drop)] if drop else []
        inputs = 24
    return nn.Sequential(*layers, nn.Linear(inputs, outputs), *tail)


class Functional(nn.Module):
    """Activations as functions inside forward, layers in a list."""

    def __init__(
        self, act: Any = F.relu, out: Any = None, depth: int = 2, sizes: tuple[int, int] = (10, 4),
        cut: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        widths = [sizes[0], *[24] * depth]
        self.body = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(24, sizes[1])
        self.act, self.out, self.cut = act, out, cut

    def forward(self, x: Any) -> Any:
        for layer in self.body:
            x = self.act(layer(x))
        x = self.head(x.detach() if self.cut else x)
        return x if self.out is None else self.out(x)


def adam(model: Any, lr: float = 0.01) -> Any:
    return torch.optim.Adam(model.parameters(), lr=lr)


def sgd(model: Any, lr: float = 0.1, **options: Any) -> Any:
    return torch.optim.SGD(model.parameters(), lr=lr, **options)


def run(
    model: Any, data: Any, loss: Any, optimizer: Any, *, steps: int = 60, batch: int = 32,
    zero: bool = True, step: bool = True, evaluate: bool = False, schedule: Any = None,
) -> Watch:  # fmt: skip
    """A plain loop, watched; an error ends it."""
    x, y = data
    order = np.random.default_rng(0)
    with watch(model, optimizer, loss, planned_steps=steps, quiet=True, budget=1.0) as seen:
        try:
            for i in range(steps):
                rows = torch.as_tensor(order.permutation(len(x))[:batch])
                if zero:
                    optimizer.zero_grad()
                loss(model(x[rows]), y[rows]).backward()
                if step:
                    optimizer.step()
                if schedule is not None:
                    schedule.step()
                if evaluate and i % 20 == 19:
                    with torch.no_grad():
                        for part in range(3):
                            model(x[part * 32 : part * 32 + 32])
        except RuntimeError:
            pass
    return seen


@torch.no_grad()
def written(model: Any, change: Callable[[Any], Any]) -> Any:
    """A model whose matrices of weights are changed."""
    for p in model.parameters():
        if p.ndim > 1:
            p.copy_(change(p))
    return model


def frozen(model: Any) -> Any:
    for p in model[:-1].parameters():
        p.requires_grad_(False)
    return model


def dead(model: Any) -> Any:
    with torch.no_grad():
        model[0].bias.fill_(-20.0)
    return model


ce = F.cross_entropy


def upwards(output: Any, target: Any) -> Any:
    """Somebody's own log-likelihood, whose minus is forgotten."""
    return (F.log_softmax(output, 1) * F.one_hot(target, 4)).sum(1).mean()


def simple(model: Any, loss: Any = ce, data: Any = None, opt: Any = adam, **options: Any) -> Watch:
    return run(model, data or blobs(), loss, opt(model), **options)


def halving() -> Watch:
    model = mlp()
    optimizer = adam(model)
    halved = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    return run(model, blobs(), ce, optimizer, schedule=halved)


def in_eval_mode() -> Watch:
    x, y = blobs()
    model = mlp(norm=True).eval()
    return run(model, (30 * x, y), ce, sgd(model))


def with_nan() -> Watch:
    x, y = blobs()
    x[5, 2] = float("nan")
    return simple(mlp(), data=(x, y), batch=200)


PLANTED: dict[str, tuple[str, Callable[[], Watch]]] = {
    "softmax module": ("softmax_before_cross_entropy", lambda: simple(mlp(tail=(nn.Softmax(1),)))),
    "softmax function": ("softmax_before_cross_entropy",
                         lambda: simple(Functional(out=lambda z: z.softmax(1)))),
    "softmax in the loop": ("softmax_before_cross_entropy",
                            lambda: simple(mlp(), lambda o, t: ce(torch.softmax(o, 1), t))),
    "sigmoid": ("sigmoid_before_bce_with_logits",
                lambda: simple(mlp(outputs=1, tail=(nn.Sigmoid(),)),
                               nn.BCEWithLogitsLoss(), yes_no())),
    "one unit": ("one_unit_softmax",
                 lambda: simple(mlp(outputs=1, tail=(nn.Softmax(1),)), nn.BCELoss(), yes_no())),
    "relu on logits": ("activation_on_logits", lambda: simple(Functional(out=F.relu))),
    "raw into nll": ("probabilities_expected", lambda: simple(mlp(), F.nll_loss)),
    "raw into bce": ("probabilities_expected",
                     lambda: simple(mlp(outputs=1), nn.BCELoss(), yes_no())),
    "sigmoid for amounts": ("unreachable_targets",
                            lambda: simple(mlp(3, 1, tail=(nn.Sigmoid(),)), F.mse_loss, waves())),
    "class numbers": ("wrong_loss",
                      lambda: simple(mlp(outputs=1), F.mse_loss,
                                     (blobs()[0], blobs()[1][:, None].float()))),
    "labels 1 and 2": ("label_range",
                       lambda: simple(mlp(outputs=1), nn.BCEWithLogitsLoss(),
                                      (yes_no()[0], yes_no()[1] + 1))),
    "raw inputs": ("input_scale", lambda: simple(mlp(), data=(500 * blobs()[0], blobs()[1]))),
    "raw targets": ("target_scale",
                    lambda: simple(mlp(3, 1), F.mse_loss, (waves()[0], 1000 * waves()[1]))),
    "zeros": ("symmetric_initialization",
              lambda: simple(written(mlp(), torch.zeros_like))),
    "large weights": ("initialization_scale",
                      lambda: simple(written(mlp(), lambda w: 30 * w))),
    "no activation": ("no_nonlinearity",
                      lambda: simple(mlp(3, 1, act=nn.Identity), F.mse_loss, waves())),
    "head only": ("missing_from_optimizer", lambda: simple(mlp(), opt=lambda m: adam(m[-1]))),
    "former model": ("stale_optimizer", lambda: simple(mlp(), opt=lambda m: adam(mlp()))),
    "frozen": ("wrongly_frozen", lambda: simple(frozen(mlp()))),
    "no zero_grad": ("missing_zero_grad", lambda: simple(mlp(), opt=sgd, zero=False)),
    "no step": ("missing_step", lambda: simple(mlp(), step=False)),
    "eval mode": ("eval_mode_in_training", in_eval_mode),
    "noisy evaluation": ("train_mode_in_evaluation",
                         lambda: simple(mlp(drop=0.5), evaluate=True)),
    "batches of two": ("batchnorm_few_samples", lambda: simple(mlp(norm=True), batch=2)),
    "dropout": ("dropout_too_strong", lambda: simple(mlp(drop=0.95))),
    "detached": ("no_gradient",
                 lambda: simple(Functional(sizes=(3, 1), cut=True), F.mse_loss, waves())),
    "nan": ("non_finite", with_nan),
    "rate too high": ("learning_rate_too_high", lambda: simple(mlp(), opt=lambda m: sgd(m, 100.0))),
    "rate too low": ("learning_rate_too_low", lambda: simple(mlp(), opt=lambda m: sgd(m, 1e-5))),
    "halving rate": ("learning_rate_too_low", halving),
    "decay": ("strong_regularization",
              lambda: simple(mlp(), opt=lambda m: sgd(m, weight_decay=1.0))),
    "dead": ("dead_units", lambda: simple(dead(mlp()))),
    "sigmoids": ("vanishing_gradients",
                 lambda: simple(mlp(act=nn.Sigmoid, depth=6), opt=sgd)),
    "sigmoid functions": ("vanishing_gradients",
                          lambda: simple(Functional(torch.sigmoid, depth=6), opt=sgd)),
    "overfitting": ("overfitting", lambda: simple(mlp(), data=blobs(64, spread=2.2))),
    "upwards": ("loss_below_bound", lambda: simple(mlp(), upwards)),
}  # fmt: skip


def found(seen: Watch, kind: str) -> Finding:
    """The finding of a kind, or what the rule says, or one that has to make do with remedies."""
    for finding in seen.findings:
        if finding.kind == kind:
            return finding
    hits = RULES[kind](seen.case)
    fix, where = (hits[0].fix, hits[0].where) if hits else (Fix("try it"), "")
    return Finding(kind, "error", 0.9, where, 0, (), "", fix)


def fixed(*edits: Edit, kind: str = "no_nonlinearity") -> Finding:
    return Finding(kind, "error", 0.9, "", 0, (), "", Fix("try it", edits=edits))


@pytest.mark.parametrize("name", PLANTED)
def test_the_fix_of_a_planted_fault_is_proven(name: str) -> None:
    kind, make = PLANTED[name]
    seen = make()
    trial = treat(found(seen, kind), seen, steps=60, seeds=2).trial
    assert trial.helped, str(trial)
    assert sum(trial.after) > sum(trial.before)
    assert "proven" in str(trial)


def test_a_bottleneck_is_widened() -> None:
    model = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 1), nn.ReLU(),
                          nn.Linear(1, 24), nn.ReLU(), nn.Linear(24, 4))  # fmt: skip
    trial = treat(fixed(Edit("widen", "2")), simple(model), steps=100, seeds=2).trial
    assert trial.helped, str(trial)


@pytest.mark.parametrize("edit", [
    Edit("lr", value=10.0), Edit("lr", value=0.1), Edit("clip", value=1.0), Edit("initialize"),
    Edit("insert_normalization"), Edit("steps", value=2), Edit("activation", "", "gelu"),
], ids=lambda e: f"{e.action} {e.value}")  # fmt: skip
def test_nothing_helps_against_labels_without_signal(edit: Edit) -> None:
    seen = simple(mlp(), data=shuffled())
    trial = treat(fixed(edit), seen, steps=80).trial
    assert not trial.helped and not trial.why_not, str(trial)


@pytest.mark.parametrize("edit", [
    Edit("lr", value=0.01), Edit("zero_grad"), Edit("weight_decay", value=1e-4),
    Edit("rebuild_optimizer"), Edit("scale_inputs"), Edit("clip", value=1.0),
], ids=lambda e: e.action)  # fmt: skip
def test_what_does_nothing_to_a_healthy_run_is_not_proven(edit: Edit) -> None:
    trial = treat(fixed(edit), simple(mlp()), steps=80).trial
    assert not trial.helped and not trial.why_not, str(trial)


def test_the_second_fix_is_tried_where_the_first_does_not_help() -> None:
    seen = simple(mlp(), opt=lambda m: sgd(m, 100.0))
    second = Fix("lower it", edits=(Edit("lr", value=1e-3),))
    fix = Fix("start small", edits=(Edit("initialize_output"),), alternatives=(second,))
    finding = Finding("not_learning", "error", 0.9, "optimizer", 0, (), "", fix)
    treated = treat(finding, seen, steps=80, seeds=2)
    assert treated.trial.helped and treated.trial.tried == 2
    assert treated.fix.words == "lower it"
    assert treated.fix.alternatives[0].words == "start small"


@pytest.mark.parametrize("kind", ["softmax_before_cross_entropy", "no_gradient", "overfitting"])
def test_the_run_is_untouched(kind: str) -> None:
    seen = simple(mlp(norm=True, drop=0.2, tail=(nn.Softmax(1),)))
    model, optimizer = seen.adapter.model, seen.adapter.optimizer
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    grads = [p.grad.clone() for p in model.parameters()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    modes = [m.training for m in model.modules()]
    hooks = [len(m._forward_hooks) for m in model.modules()]
    treat(found(seen, kind), seen, steps=10, seeds=2)
    for old, new in zip(before, (model.state_dict(), optimizer.state_dict()), strict=True):
        assert _same(old, new)
    assert all(torch.equal(g, p.grad) for g, p in zip(grads, model.parameters(), strict=True))
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all() and states[2] == random.getstate()
    assert modes == [m.training for m in model.modules()]
    assert hooks == [len(m._forward_hooks) for m in model.modules()]


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(_same(old[k], new[k]) for k in old)
    if isinstance(old, list):
        return len(old) == len(new) and all(map(_same, old, new))
    return torch.equal(old, new) if torch.is_tensor(old) else bool(old == new)


def test_why_a_fix_could_not_be_tried() -> None:
    seen = simple(mlp())
    assert "no edit" in treat(fixed(), seen).trial.why_not
    assert "cannot be tried" in treat(fixed(Edit("pray")), seen).trial.why_not
    assert "no batch normalization" in treat(fixed(Edit("normalize")), seen).trial.why_not
    model = mlp()
    blind = run(model, blobs(), lambda o, t: (o.logsumexp(1) - o[:, 0]).mean(), adam(model))
    assert str(treat(fixed(Edit("clip", value=1.0)), blind).trial).startswith("could not be tried")


def test_a_model_that_cannot_be_copied_says_so() -> None:
    class Locked(nn.Sequential):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("cannot pickle a lock")

    seen = simple(Locked(*mlp()))
    trial = treat(fixed(Edit("clip", value=1.0)), seen).trial
    assert "cannot be copied" in trial.why_not and "lock" in trial.why_not


def test_its_time_is_limited_and_its_progress_told() -> None:
    calls: list[tuple[int, int]] = []
    seen = simple(mlp(tail=(nn.Softmax(1),)))
    finding = found(seen, "softmax_before_cross_entropy")
    trial = treat(finding, seen, seconds=1e-3, progress=lambda *n: calls.append(n)).trial
    assert trial.steps == 10
    assert calls and all(0 <= done <= total for done, total in calls)


def test_hooks_of_the_users_do_not_run_in_the_copy() -> None:
    model = mlp(tail=(nn.Softmax(1),))
    heard: list[int] = []
    model[0].register_forward_hook(lambda m, given, output: heard.append(1))
    seen = simple(model)
    before = len(heard)
    treat(found(seen, "softmax_before_cross_entropy"), seen, steps=10, seeds=1)
    assert len(heard) == before


def test_the_rule_for_the_scores() -> None:
    assert better((0.1, 0.1, 0.1), (0.5, 0.6, 0.5))
    assert not better((0.1, 0.1, 0.1), (0.5, 0.6, 0.05))  # not on each seed
    assert not better((0.1, 0.1, 0.1), (0.12, 0.12, 0.12))  # less than a tenth of what was missing
    assert not better((0.1, 0.1, 0.1), (0.11, 0.11, 0.99))  # less than its spread


def test_small_gains_have_to_be_surer() -> None:
    assert better((0.9, 0.91, 0.9), (0.97, 0.97, 0.96))
    assert not better((0.98, 0.98, 0.98), (0.985, 0.985, 0.985))
    assert better((0.89, 0.88, 0.9), (0.91, 0.9, 0.92))
    assert not better((0.9, 0.9, 0.9), (0.915, 0.905, 0.94))


def course(*unseen: float, examples: int = 40) -> Course:
    points = tuple({"accuracy": value} for value in unseen)
    return Course(points, points, (), "cross_entropy", examples)


def test_when_to_stop_is_told_by_the_other_seeds() -> None:
    courses = [course(0.1, 0.5, 0.3), course(0.1, 0.4, 0.2), course(0.2, 0.3, 0.9)]
    assert stopped(courses, "accuracy") == [0.3, 0.2, 0.3]


def test_stopping_early_takes_examples_that_are_held_out() -> None:
    seen = simple(mlp(), data=blobs(8), batch=8)
    trial = treat(fixed(Edit("stop"), kind="overfitting"), seen, steps=20).trial
    assert not trial.helped and "too few examples" in trial.why_not
    seen = simple(mlp(), data=blobs(64, spread=2.2))
    seen.case.validation += [(20, 1.0), (40, 0.9), (60, 0.8)]  # it has not gone on too long
    trial = treat(fixed(Edit("stop"), kind="overfitting"), seen, steps=60, seeds=2).trial
    assert not trial.helped and not trial.why_not


def test_what_the_run_does_besides_is_told() -> None:
    model = mlp(tail=(nn.Softmax(1),))

    def penalized(output: Any, target: Any) -> Any:
        return ce(output, target) + 1e-3 * sum((p**2).sum() for p in model.parameters())

    seen = simple(model, penalized)
    trial = treat(found(seen, "softmax_before_cross_entropy"), seen, steps=20, seeds=1).trial
    assert trial.left_out == ("what the loop adds to the loss",)
    assert "left out: what the loop adds to the loss" in str(trial)
    assert not treat(fixed(Edit("clip", value=1.0)), simple(mlp()), steps=10).trial.left_out


def test_a_clipped_gradient_is_clipped_in_the_copy_too() -> None:
    x, y = blobs()
    model = mlp()
    optimizer = sgd(model)
    with watch(model, optimizer, quiet=True, budget=1.0) as seen:
        for i in range(20):
            rows = slice(16 * i, 16 * i + 16)
            optimizer.zero_grad()
            ce(model(100 * x[rows]), y[rows]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            optimizer.step()
    assert seen.adapter.patient().clip == 0.25
    assert simple(mlp()).adapter.patient().clip == 0


def test_an_evaluation_in_train_mode_is_judged_by_what_it_does() -> None:
    seen = simple(mlp(drop=0.5), evaluate=True)
    trial = treat(found(seen, "train_mode_in_evaluation"), seen, steps=30, seeds=2).trial
    assert trial.measure == "agreement" and trial.helped
    assert max(trial.before) < 0.95 and min(trial.after) > 0.999
    assert "same answers" in str(trial)


@pytest.mark.parametrize("kind", ["no_signal", "inputs_constant"])
def test_what_no_change_of_the_run_cures(kind: str) -> None:
    trial = treat(fixed(kind=kind), simple(mlp(), data=shuffled())).trial
    assert "the cure is in the data" in trial.why_not


def test_statistics_of_a_batch_leave_the_running_ones_alone() -> None:
    patient = simple(mlp(norm=True)).adapter.patient()
    before = {n: t.clone() for n, t in patient.model.state_dict().items()}
    patient.by_batch = True
    by_batch = patient.answers(patient.batches[:1])[0][0]
    patient.by_batch = False
    assert np.abs(by_batch - patient.answers(patient.batches[:1])[0][0]).max() > 1e-3
    assert all(torch.equal(t, before[n]) for n, t in patient.model.state_dict().items())


def test_every_edit_of_the_remedies_is_in_the_vocabulary() -> None:
    edits = [e for fixes in REMEDIES.values() for fix in fixes for e in fix.edits]
    assert {e.action for e in edits} <= ACTIONS.keys()
    assert REMEDIES.keys() <= RULES.keys()
    placed = candidates(Finding("bottleneck", "error", 0.9, "fc2", 0, (), "", Fix("")))
    assert placed[0].edits == (Edit("widen", "fc2"),)


def test_a_trial_tells_its_curves() -> None:
    seen = simple(mlp(tail=(nn.Softmax(1),)))
    trial: Trial = treat(found(seen, "softmax_before_cross_entropy"), seen, steps=40).trial
    assert len(trial.curve_before) == len(trial.curve_after) == trial.steps == 40
    assert len(trial.points_before) == len(trial.points_after) == 5
    assert trial.measure == "likelihood" and trial.seconds > 0 and trial.fix
