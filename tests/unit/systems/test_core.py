"""The systems a course on neural networks is built on: what `docs/systems.md` says of them."""

import decimal
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import activations as A
from fathom import func, nn, optim
from fathom.autograd import Function, grad, gradcheck, graph_text, memory_report
from fathom.autograd.quotients import best_step, difference_quotient
from fathom.engine.errors import ArgumentError, ShapeError
from fathom.models.backprop import BackpropMLP
from fathom.nn.decay import decay_groups
from fathom.nn.summary import count_multiply_adds
from fathom.ops.expression import differentiate, trace
from fathom.ops.formula import Plan, formula


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_artificial_neuron() -> None:
    """One unit by scalars, by a vector and in a batch: z = 1, sigmoid 0.731, all to 1e-12."""
    x, w, b = [1.0, 2.0, -1.0], [0.5, 0.25, 0.5], 0.5
    z = sum(wi * xi for wi, xi in zip(w, x, strict=True)) + b
    unit = nn.Linear(3, 1).double()
    unit.weight.data[...], unit.bias.data[...] = [w], b
    one = unit(fathom.tensor([x], np.float64))
    assert z == 1.0 == np.dot(w, x) + b == one.item()
    assert fathom.sigmoid(one).item() == pytest.approx(0.731, abs=5e-4)
    rows, layer = draw(7, 5), nn.Linear(5, 4).double()
    batch = fathom.sigmoid(layer(fathom.tensor(rows))).value()
    weight, bias = layer.weight.value(), layer.bias.value()
    for i, row in enumerate(rows):
        alone = fathom.sigmoid(layer(fathom.tensor(row))).value()
        for j in range(4):
            total = bias[j]
            for k in range(5):
                total += weight[j, k] * row[k]
            scalar = 1.0 / (1.0 + math.exp(-total))
            assert abs(scalar - alone[j]) < 1e-12 and abs(scalar - batch[i, j]) < 1e-12


def network(activation: str, widths: tuple[int, ...] = (4, 6, 5, 3)) -> nn.Sequential:
    layers: list[nn.Module] = []
    with fathom.seed(1):
        for wide, out in itertools.pairwise(widths):
            layers += [nn.Linear(wide, out), nn.activation(activation)]
    return nn.Sequential(*layers[:-1]).double()


def by_hand(model: nn.Sequential, activation: str, loss: str) -> BackpropMLP:
    dense = [m for m in model if isinstance(m, nn.Linear)]
    return BackpropMLP([m.weight for m in dense], [m.bias for m in dense], activation, loss=loss)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
def test_forward_propagation(activation: str) -> None:
    """z = W a + b, a = f(z): number by number, in matrices, and as layers."""
    model, x = network(activation), draw(9, 4)
    f: Callable[[float], float] = {
        "tanh": math.tanh,
        "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
        "relu": lambda z: max(z, 0.0),
    }[activation]
    dense = [m for m in model if isinstance(m, nn.Linear)]
    rows = []
    for row in x:
        a = row.tolist()
        for layer in dense:
            w, b = layer.weight.value(), layer.bias.value()
            z = [b[j] + sum(w[j, k] * a[k] for k in range(len(a))) for j in range(len(b))]
            a = z if layer is dense[-1] else [f(v) for v in z]
        rows.append(a)
    layers = model(fathom.tensor(x)).value()
    np.testing.assert_allclose(layers, rows, rtol=0, atol=1e-14)
    np.testing.assert_allclose(by_hand(model, activation, "mse").predict(x), rows, atol=1e-14)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
def test_backpropagation(activation: str, loss: str) -> None:
    """The four equations give what the tape gives, to 1e-14, and what differences give."""
    model, x = network(activation), draw(9, 4)
    y = draw(9, 3, seed=1) if loss == "mse" else np.arange(9) % 3
    net = by_hand(model, activation, loss)
    out = model(fathom.tensor(x))
    value = nn.functional.mse_loss(out, fathom.tensor(y)) if loss == "mse" else None
    value = nn.functional.cross_entropy(out, y) if value is None else value
    value.backward()
    assert net.loss(x, y) == pytest.approx(value.item(), rel=1e-14)
    dense = [m for m in model if isinstance(m, nn.Linear)]
    for k, (layer, found) in enumerate(zip(dense, net.gradients(x, y), strict=True)):
        np.testing.assert_allclose(found.weight, layer.weight.grad.value(), rtol=0, atol=1e-14)
        np.testing.assert_allclose(found.bias, layer.bias.grad.value(), rtol=0, atol=1e-14)

        def moved(w: fathom.Tensor, k: int = k) -> float:
            other = BackpropMLP(net.weights, net.biases, activation, loss=loss)
            other.weights[k] = w.value()
            return other.loss(x, y)

        numeric = difference_quotient(moved, net.weights[k])
        np.testing.assert_allclose(found.weight, numeric, rtol=0, atol=1e-9)
    before = net.step(x, y, 0.1)
    assert net.loss(x, y) < before


def test_backpropagation_refuses() -> None:
    """Layers and data that do not fit are named."""
    with pytest.raises(ShapeError, match=r"layer 1 takes 2 features"):
        BackpropMLP([np.ones((2, 3)), np.ones((1, 3))], [np.ones(2), np.ones(1)])
    with pytest.raises(ArgumentError, match="unknown activation"):
        BackpropMLP([np.ones((2, 3))], [np.ones(2)], "tan")
    with pytest.raises(ArgumentError, match="a matrix and a vector"):
        BackpropMLP([np.ones((2, 3))], [])
    net = BackpropMLP([np.ones((2, 3))], [np.ones(2)], loss="cross_entropy")
    with pytest.raises(ShapeError, match=r"samples are \(n, 3\)"):
        net.predict(np.ones((5, 2)))
    with pytest.raises(ShapeError, match="5 whole numbers"):
        net.gradients(np.ones((5, 3)), np.ones((5, 2)))


def test_computation_graph() -> None:
    """Loops decide while running; the graph can be printed, passed twice, traced and reused."""

    def doubled(x: Any) -> Any:
        while x.sum().item() < 100.0:
            x = x * 2.0
        return x.sum()

    for start, factor in ((30.0, 4.0), (3.0, 64.0), (200.0, 1.0)):
        x = fathom.tensor([start], dtype=np.float64, requires_grad=True)
        doubled(x).backward()
        assert x.grad.item() == factor
    x = fathom.tensor(draw(5), requires_grad=True)
    y = (x.tanh() * x).sum()
    text = graph_text(y)
    assert all(name in text for name in ("tanh", "mul", "sum"))
    y.backward(retain_graph=True)
    first = x.grad.value().copy()
    y.backward()
    np.testing.assert_array_equal(x.grad.value(), 2 * first)
    plan = Plan(trace(lambda v: fathom.tanh(v) * v + fathom.exp(-v), ["v"]), ["v"])
    for seed in range(3):
        v = draw(40, seed=seed)
        np.testing.assert_allclose(plan(v), np.tanh(v) * v + np.exp(-v), rtol=1e-14)
    f = lambda v: (v.tanh() * v).cumsum(0)  # noqa: E731
    _, push = func.linearize(f, x.detach())
    for seed in (1, 2):
        t = fathom.tensor(draw(5, seed=seed))
        again = func.jvp(f, (x.detach(),), (t,))[1].value()
        np.testing.assert_allclose(push(t).value(), again, rtol=1e-14)


def test_reverse_mode_automatic_differentiation() -> None:
    """A gradient costs less than three times the function, however many numbers it is of."""
    for widths in ((50, 1), (20, 30, 40, 1), (100, 100, 100, 100, 1)):
        model = network("tanh", widths)
        x = fathom.tensor(draw(8, widths[0]))
        counts = [0]
        with count_multiply_adds(counts):
            loss = model(x).sum()
            counts.append(0)
            grad(loss, list(model.parameters()), create_graph=True)
        forward, backward = counts
        weights = sum(a * b for a, b in itertools.pairwise(widths))
        assert forward == 8 * weights
        assert backward == 2 * forward - 8 * widths[0] * widths[1]  # nothing for the input
    table = fathom.autograd.compare_gradients(
        lambda *xs: sum((fathom.sin(x * xs[0]) * x for x in xs), xs[-1]), np.linspace(0.1, 1, 12)
    )
    once = table["numeric"].operations / table["numeric"].passes
    assert table["reverse"].operations < 4 * once


def test_forward_mode_automatic_differentiation() -> None:
    """J v is the written-out Jacobian times v; all of J takes a pass for each input."""
    a = draw(3, 4)

    def f(x: Any) -> Any:
        return fathom.sin(fathom.tensor(a) @ x) * x[0]

    at, v = draw(4, seed=1), draw(4, seed=2)
    jacobian = np.cos(a @ at)[:, None] * a * at[0]
    jacobian[:, 0] += np.sin(a @ at)
    x = fathom.tensor(at)
    out, pushed = func.jvp(f, (x,), (fathom.tensor(v),))
    np.testing.assert_allclose(out.value(), np.sin(a @ at) * at[0], rtol=1e-14)
    np.testing.assert_allclose(pushed.value(), jacobian @ v, rtol=1e-12)
    columns = [func.jvp(f, (x,), (fathom.tensor(e),))[1].value() for e in np.eye(4)]
    np.testing.assert_allclose(np.stack(columns, 1), jacobian, rtol=1e-12)
    table = fathom.autograd.compare_gradients(lambda *xs: sum(xs[1:], xs[0]) ** 2, [1.0] * 7)
    assert table["forward"].passes == 7 and table["reverse"].passes == 1


def test_numerical_differentiation() -> None:
    """The error's V: slopes 1 and 2 on the right, lowest near 1e-8 and 1e-5."""
    points = np.linspace(0.5, 1.5, 25)

    def errors(form: str, steps: np.ndarray) -> np.ndarray:
        """Root mean square over the points, for each step."""
        found = [[difference_quotient(fathom.sin, x, h, form) for x in points] for h in steps]
        return np.sqrt(np.mean((np.array(found) - np.cos(points)) ** 2, axis=1))

    for form, slope, lowest in (("forward", 1, 1e-8), ("central", 2, 1e-5)):
        right = np.log10(errors(form, np.array([1e-1, 1e-2, 1e-3])))
        np.testing.assert_allclose(-np.diff(right), slope, atol=0.05)
        steps = 10.0 ** np.arange(-12, 0.5, 0.5)
        best = steps[errors(form, steps).argmin()]
        assert lowest / 5 <= best <= lowest * 5
        assert lowest / 5 <= best_step(form) <= lowest * 5
        small, least = errors(form, np.array([lowest * 1e-3, lowest]))
        assert small > 100 * least  # rounding
    evaluations = []
    for form in ("forward", "central"):
        seen: list[int] = []
        difference_quotient(lambda x, n=seen: (n.append(1), x.sum())[1], points, None, form)
        evaluations.append(len(seen))
    assert evaluations == [26, 50]
    with pytest.raises(ArgumentError, match="step must be > 0"):
        difference_quotient(fathom.sin, 1.0, 0.0)
    with pytest.raises(ArgumentError, match="unknown form 'backward'"):
        difference_quotient(fathom.sin, 1.0, None, "backward")


def logistic_map(n: int) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        for _ in range(n):
            x = 4 * x * (1 - x)
        return x

    return f


def test_symbolic_differentiation() -> None:
    """d/dx of the n-fold logistic map: right in value; written out it has (3n - 1) 2^n operations.

    4, 20, 64, 176, 448: the counts depend on what is simplified, the growth does not. With equal
    parts shared it is 7n - 3.
    """
    written, shared = [], []
    for n in range(1, 8):
        slope = differentiate(trace(logistic_map(n), ["x"]), "x")
        written.append(slope.operations(shared=False))
        shared.append(slope.operations())
        x = fathom.tensor(0.3, np.float64)
        exact = func.grad(logistic_map(n))(x).item()
        assert formula(logistic_map(n)).derivative()(np.array([0.3]))[0] == pytest.approx(exact)
    assert written == [(3 * n - 1) * 2**n for n in range(1, 8)]
    assert written[:5] == [4, 20, 64, 176, 448]
    assert shared == [7 * n - 3 for n in range(1, 8)]


@pytest.mark.parametrize("k", [1, 2, 5, 40])
def test_branch_gradient_accumulation(k: int) -> None:
    """Used k times, a value gets k times the gradient."""
    x = fathom.tensor(draw(6), requires_grad=True)
    y = x.exp()
    total = y.sin()
    for _ in range(k - 1):
        total = total + y.sin()
    total.sum().backward()
    once = np.cos(np.exp(x.value())) * np.exp(x.value())
    np.testing.assert_allclose(x.grad.value(), k * once, rtol=1e-13)


class OwnGELU(Function):
    """x Phi(x) with a slope of its own: Phi(x) + x phi(x)."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        share = 0.5 * (1.0 + fathom.erf(x / math.sqrt(2.0)))
        ctx.save_for_backward(x, share)
        return x * share

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, share = ctx.saved_tensors
        return g * (share + x * fathom.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi))


def test_saved_tensors_and_custom_functions() -> None:
    """A GELU of one's own passes gradcheck; what it keeps is the bytes it was told to keep."""
    x = fathom.tensor(draw(4, 5), requires_grad=True)
    assert gradcheck(OwnGELU.apply, x)
    np.testing.assert_allclose(OwnGELU.apply(x).value(), A.gelu(x).value(), atol=1e-15)
    inner = x * 1.0
    assert memory_report(OwnGELU.apply(inner).sum()).bytes == 2 * 20 * 8  # x and Phi(x)
    assert memory_report((inner + inner).sum()).bytes == 0


def test_sigmoid() -> None:
    """Values by the definition, slope s (1 - s), at most 1/4; finite at +-1000."""
    x = np.array([-20.0, -4.0, -1.0, 0.0, 0.5, 2.0, 20.0])
    wanted = [1 / (1 + math.exp(-v)) for v in x]
    t = fathom.tensor(x, requires_grad=True)
    s = fathom.sigmoid(t)
    s.sum().backward()
    np.testing.assert_allclose(s.value(), wanted, rtol=1e-14)
    np.testing.assert_allclose(t.grad.value(), [w * (1 - w) for w in wanted], rtol=1e-9)
    slope = A.sigmoid.derivative()(np.linspace(-10, 10, 20001))
    assert slope.max() == 0.25 == slope[10000]
    far = fathom.tensor([-1000.0, 1000.0], requires_grad=True)
    out = fathom.sigmoid(far)
    out.sum().backward()
    assert out.tolist() == [0.0, 1.0] and far.grad.tolist() == [0.0, 0.0]


def test_tanh() -> None:
    """2 sigmoid(2x) - 1; slopes 1 - tanh^2, from 1 at 0 to nothing."""
    x = np.linspace(-9, 9, 181)
    t = fathom.tensor(x, requires_grad=True)
    y = fathom.tanh(t)
    np.testing.assert_allclose(y.value(), 2 * fathom.sigmoid(fathom.tensor(2 * x)).value() - 1,
                               rtol=0, atol=1e-15)  # fmt: skip
    y.sum().backward()
    np.testing.assert_allclose(t.grad.value(), 1 / np.cosh(x) ** 2, rtol=1e-6, atol=1e-12)
    slopes = A.tanh.derivative()(np.array([0.0, 0.5, 1.0, 2.0, 3.0]))
    np.testing.assert_allclose(slopes, [1, 0.786448, 0.419974, 0.070651, 0.009866], atol=1e-6)


def test_relu() -> None:
    """max(x, 0), slope 1 or 0, 0 at 0; half of what is normally distributed becomes 0."""
    x = fathom.tensor([-2.0, -0.0, 0.0, 1e-30, 3.0], dtype=np.float64, requires_grad=True)
    y = fathom.relu(x)
    y.sum().backward()
    assert y.tolist() == [0.0, 0.0, 0.0, 1e-30, 3.0] and x.grad.tolist() == [0, 0, 0, 1, 1]
    zeros = (fathom.relu(fathom.tensor(draw(100_000))).value() == 0).mean()
    assert zeros == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(100_000))


def test_leaky_relu() -> None:
    """Slopes alpha and 1; equal to max(alpha x, x) for alpha <= 1 and for no larger one."""
    x = np.linspace(-4, 4, 100)  # 0 is not among them
    for alpha in (0.01, 0.3, 1.0, 2.0):
        t = fathom.tensor(x, requires_grad=True)
        y = A.leaky_relu(t, alpha)
        y.sum().backward()
        np.testing.assert_allclose(t.grad.value(), np.where(x > 0, 1.0, alpha), rtol=1e-15)
        same = np.allclose(y.value(), np.maximum(alpha * x, x), rtol=1e-15)
        assert same == (alpha <= 1.0)


def test_prelu() -> None:
    """Starts at 0.25, learns a slope a channel, and is left alone by weight decay."""
    layer = nn.PReLU(3)
    assert layer.weight.tolist() == [0.25] * 3
    x = fathom.tensor(draw(2, 3, 4, 5), requires_grad=True)
    assert gradcheck(lambda v, w: nn.functional.prelu(v, w), [x, nn.PReLU(3).double().weight])
    model = nn.Sequential(nn.Linear(4, 3), nn.PReLU((3,)), nn.Linear(3, 2))
    groups = decay_groups(model, 0.1)
    assert [sum(p.size for p in g["params"]) for g in groups] == [18, 8]
    optimizer = optim.SGD(groups, lr=1.0)
    before = {n: p.value().copy() for n, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = fathom.zeros(*p.shape)
    optimizer.step()
    for name, p in model.named_parameters():
        factor = 0.9 if name in ("0.weight", "2.weight") else 1.0
        np.testing.assert_allclose(p.value(), factor * before[name], rtol=1e-6)
    with pytest.raises(ArgumentError, match="weight_decay"):
        decay_groups(model, -1.0)


def test_softmax() -> None:
    """(1, 2, 3) gives .0900, .2447, .6652; sums to 1; shifts do nothing; J = diag(s) - s s'."""
    book = fathom.softmax(fathom.tensor([1.0, 2.0, 3.0], dtype=np.float64)).value()
    np.testing.assert_allclose(book, [0.0900, 0.2447, 0.6652], atol=5e-5)
    x = fathom.tensor(draw(6) * 3)
    s = fathom.softmax(x).value()
    assert s.sum() == pytest.approx(1.0, abs=1e-15) and (s > 0).all()
    shifted = fathom.softmax(x + 700.0).value()
    np.testing.assert_allclose(shifted, s, rtol=1e-11)
    jacobian = func.jacrev(fathom.softmax)(x).value()
    np.testing.assert_allclose(jacobian, np.diag(s) - np.outer(s, s), rtol=0, atol=1e-15)
    g = draw(6, seed=1)
    pulled = func.vjp(fathom.softmax, x)[1](fathom.tensor(g))[0].value()
    np.testing.assert_allclose(pulled, s * (g - g @ s), rtol=0, atol=1e-15)


@pytest.mark.parametrize("size", [1.0, 50.0, 1e4])
def test_log_softmax_and_stable_cross_entropy(size: float) -> None:
    """Finite at logits of 10^4, and equal to 60-digit arithmetic to 1e-14."""
    logits, labels = draw(4, 5) * size, np.array([0, 3, 1, 4])
    with decimal.localcontext() as context:
        context.prec, context.Emin = 60, -999_999
        rows = [[decimal.Decimal(float(v)) for v in row] for row in logits]
        log_sums = [sum((v.exp() for v in row), decimal.Decimal(0)).ln() for row in rows]
        logs = [[float(v - s) for v in row] for row, s in zip(rows, log_sums, strict=True)]
    t = fathom.tensor(logits, requires_grad=True)
    np.testing.assert_allclose(fathom.log_softmax(t).value(), logs, rtol=1e-14, atol=1e-15)
    sums = fathom.logsumexp(t, -1).value()
    np.testing.assert_allclose(sums, [float(s) for s in log_sums], rtol=1e-14)
    loss = nn.functional.cross_entropy(t, labels, reduction="none")
    np.testing.assert_allclose(
        loss.value(), [-logs[i][k] for i, k in enumerate(labels)], rtol=1e-14, atol=1e-15
    )
    loss.sum().backward()
    assert np.isfinite(t.grad.value()).all()


@pytest.mark.parametrize(
    ("fill", "f", "start"),
    [
        (nn.init.kaiming_normal_, lambda z: np.maximum(z, 0), 2.0),
        (nn.init.xavier_normal_, lambda z: z, 1.0),
        (nn.init.lecun_normal_, lambda z: A.selu(z), 1.0),
    ],
    ids=["he, relu", "xavier, identity", "lecun, selu"],
)
def test_init_schemes_keep_the_second_moment(fill: Any, f: Any, start: float) -> None:
    """On the mean of 32 networks the second moment of z stays within 20 % over 20 layers."""
    depth, width, networks = 20, 192, 32
    moments = np.zeros((networks, depth))
    with fathom.seed(0):
        weight = fathom.zeros(width, width)
        for moment in moments:
            a = fathom.randn(16, width).value()
            for layer in range(depth):
                fill(weight)
                z = a @ weight.value().T
                moment[layer] = np.mean(z * z) / start
                a = f(z)
    mean = moments.mean(axis=0)
    assert 0.8 < mean.min() and mean.max() < 1.2


def test_init_schemes_zero_and_constant_weights_lose_rank() -> None:
    """After 50 steps the hidden matrix has rank 0 from zeros, 1 from a constant, 4 from noise."""
    x, y = fathom.tensor(draw(40, 5)), draw(40, 1, seed=1)
    ranks = []
    for start in (0.0, 0.3, None):
        with fathom.seed(0):
            model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        for p in model.parameters() if start is not None else ():
            nn.init.constant_(p, start)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        for _ in range(50):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), fathom.tensor(y)).backward()
            optimizer.step()
        ranks.append(int(np.linalg.matrix_rank(model[0].weight.value())))
    assert ranks == [0, 1, 4]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.05}),
        ("SGD", {"lr": 0.02, "momentum": 0.9}),
        ("Adagrad", {"lr": 0.1}),
        ("RMSprop", {"lr": 0.01}),
        ("Adam", {"lr": 0.01}),
        ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    ],
    ids=["SGD", "momentum", "AdaGrad", "RMSProp", "Adam", "AdamW"],
)
def test_optimizers(name: str, options: dict[str, float]) -> None:
    """A thousand steps down a noisy bowl end within 1e-12 of where PyTorch's end."""
    torch = pytest.importorskip("torch")
    start, target, noise = draw(12) * 2, draw(12, seed=1), draw(1000, 12, seed=2)
    ours = nn.Parameter(start.copy())
    theirs = torch.nn.Parameter(torch.tensor(start))
    first, second = (
        getattr(optim, name)([ours], **options),
        getattr(torch.optim, name)([theirs], **options),
    )
    for row in noise:
        ours.grad = fathom.tensor(ours.value() - target + row)
        theirs.grad = theirs.detach() - torch.tensor(target) + torch.tensor(row)
        first.step()
        second.step()
    np.testing.assert_allclose(ours.value(), theirs.detach().numpy(), rtol=0, atol=1e-12)
    assert np.abs(ours.value() - start).max() > 0.1
