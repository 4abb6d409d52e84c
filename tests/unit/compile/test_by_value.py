"""Code that goes by values: one step of a plan, one derivative, and no wrong ones."""

import numpy as np
import pytest

import fathom
from fathom.compile import TraceError
from fathom.func import grad, hvp, jvp
from fathom.nn import functional as F

INDEX, OFFSETS = fathom.tensor([0, 1, 2, 3]), fathom.tensor([0, 2])


def bags(weight):
    return (F.embedding_bag(INDEX, weight, OFFSETS, mode="max") ** 3).sum()


@pytest.fixture
def weight():
    return fathom.tensor(np.random.default_rng(0).standard_normal((5, 3)))


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_the_first_derivative_is_that_of_the_eager_code(weight, backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    compiled = fathom.compile(lambda w: grad(bags)(w), backend=backend)
    np.testing.assert_allclose(compiled(weight).numpy(), grad(bags)(weight).numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    "derivative", [lambda w: hvp(bags, (w,), (w,)), lambda w: jvp(bags, (w,), (w,))],
    ids=["second", "forward"],
)  # fmt: skip
def test_others_are_refused_with_a_cure(weight, derivative):
    with pytest.raises(TraceError, match="one derivative, in reverse mode") as error:
        fathom.compile(derivative)(weight)
    assert "leave this step uncompiled" in str(error.value)
    derivative(weight)  # eager knows them
