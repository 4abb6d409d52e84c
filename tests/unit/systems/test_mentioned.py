"""Systems only mentioned: the checks that have no better place."""

import numpy as np
import pytest

import fathom
from fathom import nn


@pytest.mark.parametrize("name", ["Hardswish", "ReLU6", "SquaredReLU"])
def test_mobile_forms(name: str) -> None:
    """Values and slopes are PyTorch's, the corners included."""
    torch = pytest.importorskip("torch")
    forms = {
        "Hardswish": torch.nn.functional.hardswish,
        "ReLU6": torch.nn.functional.relu6,
        "SquaredReLU": lambda x: torch.nn.functional.relu(x) ** 2,
    }
    x = np.concatenate([np.linspace(-8, 8, 161), [-3.0, 0.0, 3.0, 6.0]])
    ours = fathom.tensor(x, requires_grad=True)
    theirs = torch.tensor(x, requires_grad=True)
    out, wanted = getattr(nn, name)()(ours), forms[name](theirs)
    out.sum().backward()
    wanted.sum().backward()
    np.testing.assert_allclose(out.value(), wanted.detach().numpy(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(ours.grad.value(), theirs.grad.numpy(), rtol=0, atol=1e-14)


def test_catastrophic_forgetting() -> None:
    """Digits 0 to 4, then 5 to 9: what is left of the first, and what rehearsal saves."""
    data = fathom.data.load("digits")
    x, early = (data.x / 16).astype(np.float32), data.y < 5
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1200], order[1200:]
    first, second = train[early[train]], train[~early[train]]
    old = test[early[test]]
    log = []
    for later in (second, np.concatenate([second, first[:60]])):
        with fathom.seed(0):
            model = fathom.models.mlp(64, 10, (32,))
        for rows in (first, later):
            model.fit(x[rows], data.y[rows], epochs=8, lr=0.01, seed=0, verbose=False)
            log.append(model.evaluate(x[old], data.y[old])["accuracy"])
    before, forgotten, again, rehearsed = log
    assert before == again > 0.95
    assert forgotten < 0.2 and rehearsed > forgotten + 0.5
