"""Contracts of what people write by hand: bare parameters, losses, softmaxes, lists, no_grad."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

from fathom.doctor.progress import progress  # noqa: E402
from fathom.doctor.rules import RULES  # noqa: E402
from fathom.doctor.rules.measures import besides  # noqa: E402
from fathom.doctor.rules.outcome import _validated  # noqa: E402
from fathom.doctor.watching import Watch, watch  # noqa: E402

FILES = ("output", "targets", "setup", "structure", "loop", "trained", "mixing")


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def data(n: int = 64, d: int = 8, classes: int = 4) -> tuple[Any, Any]:
    y = torch.randint(0, classes, (n,))
    return torch.randn(n, d) + 2 * torch.randn(classes, d)[y], y


def train(
    model: Any, loss: Any, x: Any, y: Any, *, steps: int = 6, batch: int = 32, lr: float = 1e-2,
    each: Callable[[Any, int], None] | None = None,
) -> Watch:  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = watch(model, optimizer, quiet=True)
        with suppress(ValueError, RuntimeError), seen:
            for step in range(steps):
                at = torch.arange(batch) + step * batch
                optimizer.zero_grad()
                loss(model(x[at % len(x)]), y[at % len(x)]).backward()
                optimizer.step()
                if each is not None:
                    each(model, step)
    assert not seen._off, seen._off
    return seen


def alarms(seen: Watch) -> list[str]:
    found = []
    for rule in RULES.values():
        if rule.look.__module__.rpartition(".")[2] in FILES and not rule.gates:
            found += [rule.name for h in rule(seen.case)
                      if (h.severity or rule.severity) != "advice"]  # fmt: skip
    return found


def first(seen: Watch) -> tuple[str, str]:
    assert seen.findings
    return seen.findings[0].kind, seen.findings[0].where


# -- bare parameters -------------------------------------------------------------------------------


class Bare(nn.Module):
    """Two products; `turned`: x @ W, else F.linear(x, W)."""

    def __init__(self, scale: float, *, turned: bool = True, ones: bool = False) -> None:
        super().__init__()
        self.turned = turned
        sizes = [(8, 32), (32, 4)] if turned else [(32, 8), (4, 32)]
        fans = [8, 32]
        made = [torch.full(s, 0.1) if ones else scale * torch.randn(s) / f**0.5
                for s, f in zip(sizes, fans, strict=True)]  # fmt: skip
        self.first, self.second = map(nn.Parameter, made)
        self.shift = nn.Parameter(torch.zeros(32))

    def forward(self, x: Any) -> Any:
        if self.turned:
            return torch.relu(x @ self.first + self.shift) @ self.second
        return F.linear(torch.relu(F.linear(x, self.first, self.shift)), self.second)


@pytest.mark.parametrize("turned", [True, False])
def test_bare_parameters_are_layers_of_their_own(turned):
    x, y = data()
    seen = train(Bare(1.0, turned=turned), F.cross_entropy, x, y)
    assert alarms(seen) == []
    assert seen.case.layers["first"].activation == "relu"
    assert seen.case.parameters["first"].form == (32, 8)
    assert seen.case.loss.layer == "second"


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("options", [{"ones": True, "scale": 1.0}, {"scale": 30.0}])
def test_bare_parameters_that_start_badly(turned, options):
    x, y = data()
    kind = "symmetric_initialization" if "ones" in options else "initialization_scale"
    found, where = first(train(Bare(turned=turned, **options), F.cross_entropy, x, y))
    assert found == kind and where in ("first", "second")


def test_a_module_with_one_matrix_keeps_its_name():
    class Dense(nn.Module):
        def __init__(self, n, m, scale):
            super().__init__()
            self.kernel = nn.Parameter(scale * torch.randn(n, m) / n**0.5)

        def forward(self, x):
            return x @ self.kernel

    def net(scale):
        return nn.Sequential(Dense(8, 32, scale), nn.ReLU(), Dense(32, 4, scale))

    x, y = data()
    assert alarms(train(net(1.0), F.cross_entropy, x, y)) == []
    found, where = first(train(net(20.0), F.cross_entropy, x, y))
    assert found == "initialization_scale" and where in ("0", "2")


# -- losses ----------------------------------------------------------------------------------------


def real(x: Any) -> Any:
    return (x[:, :1] - 0.5 * x[:, 1:2]) + 0.1 * torch.randn(len(x), 1)


@pytest.mark.parametrize("loss", [
    lambda o, y: ((o - y) ** 2).mean(), lambda o, y: ((y - o) ** 2).sum(),
    lambda o, y: (o - y).abs().mean(), lambda o, y: torch.square(o - y).mean(),
])  # fmt: skip
@pytest.mark.parametrize("flat", ["output", "target"])
def test_a_column_against_a_row_by_hand(loss, flat):
    x, _ = data()
    y = real(x)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    if flat == "output":
        wrong, right = nn.Sequential(net, nn.Flatten(0)), y[:, 0]
        assert first(train(wrong, loss, x, y)) == ("loss_broadcast", "loss")
        assert alarms(train(wrong, loss, x, right)) == []
    else:
        assert first(train(net, loss, x, y[:, 0])) == ("loss_broadcast", "loss")
        assert alarms(train(net, loss, x, y)) == []


def test_outputs_of_one_axis_squeezed_in_the_loop_are_seen():
    x, _ = data()
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    loss = lambda o, y: ((o.squeeze() - y) ** 2).mean()  # noqa: E731
    assert first(train(net, loss, x, real(x))) == ("loss_broadcast", "loss")


def test_binary_cross_entropy_by_hand_of_a_column_and_a_row():
    x, y = data(classes=2)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())
    loss = lambda p, t: -(t * torch.log(p) + (1 - t) * torch.log(1 - p)).mean()  # noqa: E731
    assert first(train(net, loss, x, y.float())) == ("loss_broadcast", "loss")
    assert alarms(train(net, loss, x, y.float()[:, None])) == []


@pytest.mark.parametrize("pick", [
    lambda logs, y: logs.gather(1, y[:, None]), lambda logs, y: logs[torch.arange(len(y)), y],
])  # fmt: skip
def test_a_likelihood_without_its_minus_sign(pick):
    x, y = data()
    net = lambda: nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))  # noqa: E731
    wrong = train(net(), lambda o, t: pick(o.log_softmax(1), t).mean(), x, y)
    assert first(wrong) == ("loss_below_bound", "loss")
    right = train(net(), lambda o, t: -pick(o.log_softmax(1), t).mean(), x, y)
    assert right.case.loss.function == "nll_loss" and right.findings == ()
    rewards = torch.randn(32)
    policy = train(net(), lambda o, t: (pick(o.log_softmax(1), t).view(-1) * rewards).mean(), x, y)
    assert policy.case.loss is None or policy.case.loss.function != "nll_loss"


@pytest.mark.parametrize("loss", [
    lambda s, t: torch.clamp(1 - t * s, min=0).mean(), lambda s, t: F.relu(1 - s * t).mean(),
    lambda s, t: F.softplus(-t * s).mean(), lambda s, t: torch.log1p(torch.exp(-t * s)).mean(),
    lambda s, t: -F.logsigmoid(t * s).mean(),
])  # fmt: skip
def test_hinges_take_labels_of_both_signs(loss):
    x, y = data(classes=2)
    net = lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1),  # noqa: E731
                                nn.Flatten(0))  # fmt: skip
    assert first(train(net(), loss, x, y.float())) == ("label_range", "targets")
    assert alarms(train(net(), loss, x, 2 * y.float() - 1)) == []


class Pair(nn.Module):
    """What a network adds to its inputs is to mislead another one."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        self.other = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x: Any) -> Any:
        return self.other(x + self.own(x))


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_an_adversary_makes_another_ones_loss_larger(frozen, whole):
    x, y = data()
    pair = Pair()
    pair.other.requires_grad_(not frozen)
    watched = pair if whole else pair.own
    optimizer = torch.optim.Adam(pair.own.parameters(), lr=1e-2)
    with watch(watched, optimizer, quiet=True, budget=1.0) as seen:
        for _ in range(8):
            optimizer.zero_grad()
            (-F.cross_entropy(pair(x), y)).backward()
            optimizer.step()
    assert not RULES["wrong_loss"](seen.case) and len(seen.case.losses) > 2


@pytest.mark.parametrize("upward", [True, False])
def test_an_optimizer_that_maximizes(upward):
    x, y = data()
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, maximize=True)
    with watch(net, optimizer, quiet=True) as seen:
        for _ in range(8):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            (loss if upward else -loss).backward()
            optimizer.step()
    assert bool(RULES["wrong_loss"](seen.case)) is upward


@pytest.mark.parametrize("loss", [
    lambda o, t: F.mse_loss(o, t).sqrt(), lambda o, t: ((o - t) ** 2).mean().sqrt(),
    lambda o, t: (F.mse_loss(o, t) + 1e-8) ** 0.5, lambda o, t: torch.norm(o - t) / len(t) ** 0.5,
    lambda o, t: 3 * F.mse_loss(o, t).sqrt(),
])  # fmt: skip
def test_roots_of_squared_errors(loss):
    x, _ = data()
    net = lambda *tail: nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1),  # noqa: E731
                                      *tail)  # fmt: skip
    t = real(x)
    seen = train(net(), loss, x, t, steps=12, batch=64)
    state, base = progress(seen.case), float(loss(t.mean().expand_as(t), t))
    assert alarms(seen) == [] and state.known and state.base == pytest.approx(base, rel=1e-3)
    assert besides(seen.case) == []
    assert first(train(net(), loss, x, t[:, 0])) == ("loss_broadcast", "loss")
    assert first(train(net(nn.Sigmoid()), loss, x, t)) == ("unreachable_targets", "output")


def test_validation_of_a_run_on_roots_is_on_its_scale():
    x, _ = data()
    t, net = real(x), nn.Linear(8, 1)

    def evaluate(model: Any, step: int) -> None:
        with torch.no_grad():
            F.mse_loss(model(x), t)

    seen = train(net, lambda o, y: F.mse_loss(o, y).sqrt(), x, t, steps=12, each=evaluate)
    _, values = _validated(seen.case)
    raw = [v for _, v in seen.case.validation]
    assert len(raw) > 2 and values == pytest.approx([v**0.5 for v in raw], rel=1e-3)


def test_a_target_handed_over_as_the_output():
    x, y = data(classes=2)
    net = lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1),  # noqa: E731
                                nn.Sigmoid())  # fmt: skip
    t = y.float()[:, None]
    seen = train(net(), lambda p, t: F.binary_cross_entropy(t, p), x, t)
    assert first(seen) == ("wrong_loss", "loss")
    assert alarms(train(net(), F.binary_cross_entropy, x, t)) == []
    assert alarms(train(net(), lambda p, t: F.mse_loss(t, p), x, t)) == []  # it is all the same
    raw = nn.Linear(8, 1)
    seen = train(raw, lambda p, t: F.mse_loss(t[:, 0], p), x, real(x))
    assert first(seen) == ("loss_broadcast", "loss")


def test_class_numbers_as_amounts():
    x, y = data(n=256, classes=5)
    net = lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1),  # noqa: E731
                                nn.Flatten(0))  # fmt: skip
    seen = train(net(), F.mse_loss, x, y.float(), steps=8)
    assert first(seen) == ("wrong_loss", "loss")
    for counts in (torch.poisson(torch.full((256,), 2.0)), torch.randint(0, 2, (256,)),
                   torch.binomial(torch.full((256,), 6.0), torch.tensor(0.5))):  # fmt: skip
        assert alarms(train(net(), F.mse_loss, x, counts.float(), steps=8)) == []


# -- softmaxes -------------------------------------------------------------------------------------


class Tagger(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.lift, self.out = nn.Linear(3, 16), nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        return F.log_softmax(self.out(torch.tanh(self.lift(x))), dim=self.axis)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_softmax_over_time_that_the_loop_flattens(axis):
    x, y = torch.randn(64, 7, 3), torch.randint(0, 5, (64, 7))
    loss = lambda o, t: F.nll_loss(o.reshape(-1, 5), t.reshape(-1))  # noqa: E731
    assert first(train(Tagger(axis), loss, x, y)) == ("softmax_wrong_axis", "output")
    assert alarms(train(Tagger(-1), loss, x, y)) == []
    turned = lambda o, t: F.nll_loss(o.transpose(1, 2), t)  # noqa: E731
    assert first(train(Tagger(axis), turned, x, y))[0] == "softmax_wrong_axis"
    assert alarms(train(Tagger(-1), turned, x, y)) == []


class Pooled(nn.Module):
    """Attention pooling over the places of each example."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis, self.score, self.out = axis, nn.Linear(3, 1), nn.Linear(3, 4)

    def forward(self, x: Any) -> Any:
        share = torch.softmax(self.score(x), dim=self.axis)
        return self.out((share * x).sum(1))


def test_attention_over_the_examples():
    x, y = torch.randn(64, 7, 3), torch.randint(0, 4, (64,))
    assert first(train(Pooled(0), F.cross_entropy, x, y)) == ("softmax_wrong_axis", "score")
    assert alarms(train(Pooled(1), F.cross_entropy, x, y)) == []
    whole = train(Pooled(0), F.cross_entropy, x, y, batch=64)  # a set: the same in each step
    assert alarms(whole) == []


def test_similarities_of_all_with_all_may_be_normalized_either_way():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.lift, self.out = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x):
            z = self.lift(x)
            return self.out(torch.softmax(z @ z.T, dim=0) @ z)

    x, y = data()
    assert alarms(train(Both(), F.cross_entropy, x, y)) == []


# -- what is trained -------------------------------------------------------------------------------


class Encoded(nn.Module):
    def __init__(self, *, cut: bool) -> None:
        super().__init__()
        self.cut = cut
        self.encoder, self.head = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        with torch.set_grad_enabled(not self.cut):
            z = torch.tanh(self.encoder(x))
        return self.head(z)


def test_no_grad_inside_the_model():
    x, y = data()
    assert first(train(Encoded(cut=True), F.cross_entropy, x, y)) == ("no_gradient", "encoder")
    assert alarms(train(Encoded(cut=False), F.cross_entropy, x, y)) == []


def test_a_trained_backbone_called_without_gradients_is_meant():
    x, y = data()
    model = Encoded(cut=False)
    train(model, F.cross_entropy, x, y, steps=40)
    model.cut = True
    assert alarms(train(model, F.cross_entropy, x, y)) == []


def test_a_moving_average_called_without_gradients_is_meant():
    class Averaged(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.slow = nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, x):
            with torch.no_grad():
                for a, b in zip(self.slow.parameters(), self.net.parameters(), strict=True):
                    a.lerp_(b, 0.1)
                self.slow(x)
            return self.net(x)

    x, y = data()
    assert alarms(train(Averaged(), F.cross_entropy, x, y)) == []


@pytest.mark.parametrize("hide", ["list", "dict", "tensor"])
def test_what_the_model_does_not_know_is_named_by_its_attribute(hide):
    class Hiding(nn.Module):
        def __init__(self):
            super().__init__()
            lift = nn.Linear(8, 16)
            self.parts = {
                "list": [lift],
                "dict": {"a": {"b": lift}},
                "tensor": lift.weight.detach().clone().requires_grad_(),
            }[hide]
            self.call = (lambda x: x @ self.parts.T) if hide == "tensor" else lift.forward
            self.head = nn.Linear(16, 4)

        def forward(self, x):
            return self.head(torch.tanh(self.call(x)))

    x, y = data()
    assert first(train(Hiding(), F.cross_entropy, x, y)) == ("missing_from_optimizer", "parts")


def test_inputs_that_want_gradients_are_no_parameters():
    x, y = data()
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    assert alarms(train(net, F.cross_entropy, x.requires_grad_(), y)) == []


# -- normalization ---------------------------------------------------------------------------------


def images(norm: Any) -> Any:
    body = (nn.Conv2d(1, 4, 3), *norm, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 4))
    return nn.Sequential(*body)


def test_bytes_are_fine_where_the_first_layer_is_normalized():
    y = torch.randint(0, 4, (64,))
    x = torch.randint(0, 256, (64, 1, 8, 8)).float()
    assert "input_scale" in alarms(train(images(()), F.cross_entropy, x, y))
    for norm in (nn.BatchNorm2d(4), nn.GroupNorm(2, 4)):
        assert alarms(train(images((norm,)), F.cross_entropy, x, y)) == []
    wide = x[:, 0, 0] * torch.logspace(-4, 2, 8)  # the scales of features are not made alike
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    assert "input_scale" in alarms(train(net, F.cross_entropy, wide, y))


@pytest.mark.parametrize(("momentum", "faulty"), [
    (1e-4, True), (0.99, True), (0.1, False), (0.03, False), (None, False),
])  # fmt: skip
def test_momentum_of_batch_normalization(momentum, faulty):
    x, y = data()
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16, momentum=momentum), nn.ReLU(),
                        nn.Linear(16, 4))  # fmt: skip

    def evaluate(model: Any, step: int) -> None:
        if step == 60:
            model.eval()
            with torch.no_grad():
                model(x)
            model.train()

    seen = train(net, F.cross_entropy, x, y, steps=80, each=evaluate)
    hits = [h.where for h in RULES["train_eval_gap"](seen.case)]
    assert hits == (["1"] if faulty else [])


# -- gates and modes -------------------------------------------------------------------------------


def classifier(*between: Any) -> Any:
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), *between, nn.Linear(32, 4))


def test_a_first_loss_far_above_that_of_a_constant():
    x, y = data()
    net = classifier()
    with torch.no_grad():
        net[2].weight.mul_(60.0)
    hits = RULES["initial_loss"](train(net, F.cross_entropy, x, y, steps=3).case)
    assert [h.where for h in hits] == ["2"]
    assert RULES["initial_loss"](train(classifier(), F.cross_entropy, x, y, steps=3).case) == []


def test_sums_with_a_learning_rate_for_means():
    x, y = data()

    def hits(reduction: str, lr: float) -> list[str]:
        net = classifier()
        optimizer = torch.optim.SGD(net.parameters(), lr=lr)
        with watch(net, optimizer, quiet=True) as seen:
            for _ in range(4):
                optimizer.zero_grad()
                F.cross_entropy(net(x), y, reduction=reduction).backward()
                optimizer.step()
        return [h.where for h in RULES["sum_reduction"](seen.case)]

    assert hits("sum", 0.1) == ["loss"]
    assert hits("sum", 1e-4) == hits("mean", 0.1) == []


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_evaluated_in_train_mode(mode):
    x, y = data()

    def evaluate(model: Any, step: int) -> None:
        if step in (3, 7):
            model.train(mode == "train")
            with torch.no_grad():
                model(x)
            model.train()

    seen = train(classifier(nn.Dropout(0.3)), F.cross_entropy, x, y, steps=9, each=evaluate)
    assert ("train_mode_in_evaluation" in alarms(seen)) == (mode == "train")
