"""Losses written out by hand are read off PyTorch's graph, with what they were given."""

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from fathom.doctor.adapters.torch_graph import read  # noqa: E402
from fathom.doctor.adapters.torch_written import written_call  # noqa: E402


def seen(loss, output):
    _, nodes = read(loss.grad_fn, {}, {})
    return written_call(nodes, output)


@pytest.fixture
def linear():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(5, 3), torch.randn(8, 5)
    return lambda: layer(x)


@pytest.mark.parametrize(("loss", "function"), [
    (lambda o, y: ((o - y) ** 2).mean(), "mse_loss"),
    (lambda o, y: ((y - o) ** 2).sum(), "mse_loss"),
    (lambda o, y: torch.mean(torch.square(o - y)), "mse_loss"),
    (lambda o, y: (o - y).abs().mean(), "l1_loss"),
])  # fmt: skip
def test_errors(linear, loss, function):
    output, target = linear(), torch.randn(8, 3)
    _, name, given, aim, options = seen(loss(output, target), output)
    assert name == function and options["reduction"] in ("mean", "sum")
    torch.testing.assert_close(aim, target)
    torch.testing.assert_close(given, output.detach())


def test_a_broadcast_error_shows_both_shapes():
    output = torch.nn.Linear(5, 1)(torch.randn(8, 5))
    target = torch.randn(8)
    _, _, given, aim, _ = seen(((output - target) ** 2).mean(), output)
    assert given.shape == (8, 1)
    torch.testing.assert_close(aim, target)


@pytest.mark.parametrize("loss", [
    lambda o, y: -(y * torch.log(torch.softmax(o, 1))).sum(1).mean(),
    lambda o, y: -(y * torch.log_softmax(o, 1)).sum(1).mean(),
    lambda o, y: (torch.logsumexp(o, 1) - (o * y).sum(1)).mean(),
])  # fmt: skip
def test_cross_entropies(linear, loss):
    output, target = linear(), F.one_hot(torch.arange(8) % 3, 3).float()
    _, name, given, aim, _ = seen(loss(output, target), output)
    assert name in ("cross_entropy", "nll_loss")
    torch.testing.assert_close(aim, target)
    torch.testing.assert_close(torch.softmax(given, 1), torch.softmax(output, 1).detach())


def test_binary_cross_entropy(linear):
    p, y = torch.sigmoid(linear()[:, :1]), (torch.arange(8) % 2).float()[:, None]
    loss = -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()
    _, name, given, aim, _ = seen(loss, p)
    assert name == "binary_cross_entropy"
    torch.testing.assert_close(given, p.detach())
    torch.testing.assert_close(aim, y)


def test_other_losses_are_left_alone(linear):
    output, target = linear(), torch.randn(8, 3)
    chosen = F.one_hot(torch.arange(8) % 3, 3).float()
    rewards = torch.randn(8)
    policy = -((torch.log_softmax(output, 1) * chosen).sum(1) * rewards).mean()
    for loss in (-output.mean(), policy, ((output - target) ** 2).mean().sqrt(),
                 ((output - linear()) ** 2).mean()):  # fmt: skip
        assert seen(loss, output) is None
