"""Functions that become plans when they are called often: per-sample gradients."""

import copy

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.compile import EagerWarning
from fathom.compile.pure import impurity
from fathom.compile.repeated import OFTEN
from fathom.func import functional_call, per_sample_grad
from fathom.nn import functional as F

RNG = np.random.default_rng(0)
X = fathom.tensor(RNG.standard_normal((12, 4)).astype(np.float32))
Y = fathom.tensor(RNG.integers(0, 3, 12))
with fathom.seed(0):
    MODEL = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
NOTES = []


def loss(params, x, y):
    return F.cross_entropy(functional_call(MODEL, params, x[None]), y[None])


def noting(params, x, y):
    NOTES.append(1)
    return loss(params, x, y)


def weights():
    return {name: p.detach() for name, p in MODEL.named_parameters()}


def check(found, wanted, exact=False):
    assert found.keys() == wanted.keys()
    for name, a in wanted.items():
        if exact:
            assert found[name].value().tobytes() == a.value().tobytes()
        np.testing.assert_allclose(found[name].value(), a.value(), rtol=1e-5, atol=1e-6)


def test_compile_of_per_sample_gradients(backend):
    grads = per_sample_grad(loss)
    compiled = fathom.compile(grads, backend=backend)
    check(compiled(weights(), X, Y), grads(weights(), X, Y), backend == "numpy")
    assert len(compiled.plans) == 1


def test_a_plan_from_the_16th_call_of_a_signature_on():
    grads, eager = per_sample_grad(loss), per_sample_grad(loss, compile=False)
    wanted = eager(weights(), X, Y)
    for _ in range(OFTEN - 1):
        check(grads(weights(), X, Y), wanted, exact=True)
    assert not grads.compiled.plans
    check(grads(weights(), X, Y), wanted)
    assert len(grads.compiled.plans) == 1
    changed = {name: p * 2 for name, p in weights().items()}
    check(grads(changed, X, Y), eager(changed, X, Y))  # new values, the same plan
    check(grads(weights(), X[:5], Y[:5]), eager(weights(), X[:5], Y[:5]), exact=True)
    assert len(grads.compiled.plans) == 1
    assert copy.deepcopy(grads) is grads


def test_at_once_if_wanted():
    grads = per_sample_grad(loss, compile=True)
    check(grads(weights(), X, Y), per_sample_grad(loss, compile=False)(weights(), X, Y))
    assert len(grads.plans) == 1


def test_arguments_with_a_graph_keep_it():
    grads = per_sample_grad(loss)
    for _ in range(OFTEN + 2):
        found = grads(dict(MODEL.named_parameters()), X, Y)
    assert found["0.weight"].requires_grad and not grads.compiled.plans
    with fathom.no_grad():
        for _ in range(OFTEN):
            found = grads(dict(MODEL.named_parameters()), X, Y)
    assert not found["0.weight"].requires_grad and len(grads.compiled.plans) == 1


def test_what_does_more_than_compute_runs_as_it_is():
    grads = per_sample_grad(noting)
    NOTES.clear()
    for _ in range(OFTEN - 1):
        grads(weights(), X, Y)
    with pytest.warns(EagerWarning, match=r"per_sample_grad\(noting\) is not compiled: it "):
        grads(weights(), X, Y)
    for _ in range(4):
        grads(weights(), X, Y)
    assert len(NOTES) == OFTEN + 4 and not grads.compiled.plans


COUNT = 0


def counting(x):
    global COUNT
    COUNT += 1
    return x


def outer():
    total = 0.0

    def inner(x):
        nonlocal total
        total += 1.0
        return x

    return inner


def setting(x):
    MODEL.flag = 1
    return x


class Own(nn.Module):
    def forward(self, x):
        return x


OWN = Own()


@pytest.mark.parametrize(
    "function, reason",
    [
        (loss, ""),
        (lambda x: np.tanh(x) + F.relu(MODEL(x)), ""),
        (lambda x: sum(loss(x, x, i) for i in range(3)), ""),
        (lambda x: print(x), "it names print"),
        (lambda x: NOTES, "it names NOTES"),
        (lambda x: np.random.normal(), "it calls random"),
        (lambda x: MODEL.train(), "it calls train"),
        (lambda x: OWN(x), "it names OWN"),
        (lambda x: noting(x, x, x), "it names noting"),
        (lambda x: absent(x), "it names absent"),  # noqa: F821
        (counting, "it writes to something"),
        (outer(), "it writes to something"),
        (setting, "it writes to something"),
        (lambda x: [(yield x)], "it is a generator"),
        (len, ""),
        (open, "it is no plain function"),
    ],
    ids=lambda v: v if isinstance(v, str) and v else None,
)
def test_what_only_computes(function, reason):
    assert impurity(function) == reason
