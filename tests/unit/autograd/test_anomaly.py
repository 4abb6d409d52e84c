"""Anomaly mode: the first value that is not finite, by operation, line and layer."""

import inspect

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.autograd import AnomalyError, detect_anomaly
from fathom.engine.errors import ArgumentError


def leaf(values, **keywords):
    return fathom.tensor(values, requires_grad=True, **keywords)


def here() -> int:
    return inspect.currentframe().f_back.f_lineno


def test_forward_names_operation_and_line() -> None:
    x = leaf([1.0, 0.0])
    with detect_anomaly(), pytest.raises(AnomalyError) as error:
        y = x * 2
        fathom.log(y); line = here()  # fmt: skip # noqa: E702
    text = str(error.value)
    line = here() - 2
    assert f"log ({__file__}:{line}) put out -inf from finite values" in text
    assert "try: log(0) is -inf" in text
    assert isinstance(error.value, ArithmeticError)


def test_backward_names_operation_and_line() -> None:
    x = leaf([0.0, 4.0])
    with detect_anomaly():
        y = fathom.sqrt(x); line = here()  # fmt: skip # noqa: E702
        with pytest.raises(AnomalyError, match="passed back inf from finite") as error:
            y.sum().backward()
    assert f"sqrt ({__file__}:{line})" in str(error.value) and "1e-12" in str(error.value)


def test_backward_of_the_untaken_branch() -> None:
    x = leaf([0.0, 4.0])
    with detect_anomaly("record") as found:
        fathom.where(x > 0, fathom.sqrt(x), 0.0).sum().backward()
    assert [(a.direction, a.operation, a.value) for a in found] == [("backward", "sqrt", "nan")]
    assert found[0].shapes == ((2,),)


def test_record_goes_on_and_blames_only_the_origin() -> None:
    x = leaf([-1.0, 1.0])
    with detect_anomaly("record") as found:
        y = fathom.log(x)
        z = (y * 2 + 1).exp()
        w = fathom.exp(x * 1000)
    assert [(a.operation, a.value) for a in found] == [("log", "nan"), ("exp", "inf")]
    assert np.isnan(z.detach().numpy()[0]) and np.isinf(w.detach().numpy()[1])


def test_infinity_that_came_in_is_nobodys_fault() -> None:
    with detect_anomaly():
        y = fathom.tensor([np.inf, 1.0]) * 2
    assert y.tolist() == [np.inf, 2.0]


class Bad(nn.Module):
    def forward(self, x):
        return fathom.log(x - x)


class Steep(nn.Module):
    def forward(self, x):
        return fathom.sqrt(x * 0)


def test_layer_path_forward_and_backward() -> None:
    class Outer(nn.Module):
        def __init__(self, inner) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(2, 2), inner)

        def forward(self, x):
            return self.body(x)

    x = fathom.ones(1, 2)
    with detect_anomaly("record") as found:
        Outer(Bad())(x)
    assert found[0].layer == "body.1 (Bad)" and "in layer body.1 (Bad)" in str(found[0])
    with detect_anomaly("record") as found:
        Outer(Steep())(x).sum().backward()
    assert (found[0].direction, found[0].operation) == ("backward", "sqrt")
    assert found[0].layer == "body.1 (Steep)"
    with detect_anomaly("record") as found:
        Bad()(x)
    assert found[0].layer == "Bad"


def test_results_are_the_same_and_the_mode_ends() -> None:
    x = leaf([1.0, 2.0])
    with detect_anomaly():
        (x.exp() * x).sum().backward()
    watched = x.grad.numpy().copy()
    x.zero_grad()
    (x.exp() * x).sum().backward()
    np.testing.assert_array_equal(watched, x.grad.numpy())
    assert np.isinf(fathom.log(fathom.zeros(1)).item())  # silent again


def test_inside_transforms_and_nested() -> None:
    with detect_anomaly(), pytest.raises(AnomalyError, match="log"):
        fathom.func.grad(lambda v: fathom.log(v).sum())(fathom.zeros(2))
    with detect_anomaly("record") as outer, detect_anomaly("record") as inner:
        fathom.log(fathom.zeros(1))
    assert len(outer) == len(inner) == 1


def test_mode_must_be_known() -> None:
    with pytest.raises(ArgumentError, match="'raise' or 'record'"), detect_anomaly("shout"):
        pass
