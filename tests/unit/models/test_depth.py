"""Deep plain stacks against deep residual ones, before training and after it."""

import numpy as np
import pytest

import fathom
from fathom import nn, optim
from fathom.data import load
from fathom.nn import functional as F

DEPTH = 32


def stack(residual, width, depth=DEPTH, branch=1.0):
    """ReLU and a linear layer of He's weights, `depth` times; with a way around each, or not."""
    with fathom.seed(0):
        blocks = []
        for _ in range(depth):
            layer = nn.Linear(width, width, bias=False)
            nn.init.kaiming_normal_(layer.weight)
            body = nn.Sequential(nn.ReLU(), layer)
            blocks.append(nn.Residual(body, scale=branch) if residual else body)
        return nn.Sequential(*blocks)


@pytest.mark.parametrize("depth", [8, 16, 32])
def test_each_residual_block_doubles_the_variance(depth):
    """Gain 2^(L/2) of the deviation, where a plain stack of He's weights has about 1."""
    with fathom.seed(1):
        x = fathom.randn(256, 128)

    def gain(residual):
        return float(stack(residual, 128, depth)(x).value().std() / x.value().std())

    assert 0.4 < gain(residual=True) / 2 ** (depth / 2) < 2.5
    assert 0.2 < gain(residual=False) < 3.0


def test_thirty_two_layers_learn_with_a_way_around_them():
    """Same layers, same start, same steps: the way around is all that differs."""
    data = load("iris")
    x, y = (data.x - data.x.mean(0)) / data.x.std(0), data.y
    losses = {}
    for residual in (True, False):
        with fathom.seed(0):
            first, last = nn.Linear(4, 16), nn.Linear(16, 3)
        net = nn.Sequential(first, stack(residual, 16, branch=DEPTH**-0.5), last)
        optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        for _ in range(60):
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[residual] = loss.item()
    assert losses[True] < 0.15
    assert losses[False] > 3 * losses[True]


def test_the_gradient_reaches_the_first_layer():
    """Narrow sigmoid layers: plain, nothing arrives below; around them, nearly all does."""

    def first_gradient(wrap):
        with fathom.seed(0):
            bodies = [nn.Sequential(nn.Linear(8, 8), nn.Sigmoid()) for _ in range(DEPTH)]
            net, x = nn.Sequential(*map(wrap, bodies)), fathom.randn(16, 8)
        net(x).mean().backward()
        return float(np.abs(next(net.parameters()).grad.value()).max())

    assert first_gradient(lambda body: body) < 1e-12
    assert first_gradient(nn.Residual) > 1e-4
