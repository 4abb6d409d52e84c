"""What a tensor says of itself, and how it goes over into other kinds and into NumPy."""

import numpy as np
import pytest

import fathom
from fathom.engine.errors import ArgumentError, DtypeError, GraphError, ShapeError


def leaf(values):
    return fathom.tensor(values, requires_grad=True)


def test_to() -> None:
    x = leaf([1.0, 2.0])
    assert x.to("cpu") is x and x.to(fathom.float32) is x and x.cpu() is x and x.to() is x
    assert x.to("cpu:0") is x and x.to(device="cpu") is x
    assert x.to(fathom.double).dtype == np.float64 == x.to(dtype="float64").dtype
    assert x.to(fathom.ones(1, dtype=fathom.half)).dtype == np.float16
    assert x.to("cpu", fathom.double).dtype == np.float64
    assert x.to(x, copy=True) is not x
    x.to(fathom.double).sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.tolist() == [1.0, 1.0]
    with pytest.raises(ArgumentError, match="cuda"):
        x.to("cuda")
    with pytest.raises(ArgumentError, match="cuda"):
        x.to(device="cuda:0")
    with pytest.raises(DtypeError, match="neither"):
        x.to(object())


def test_device_and_memory() -> None:
    x = fathom.zeros(2, 3, dtype=fathom.float64)
    assert x.device == "cpu" and x.device.type == "cpu" and str(x.device) == "cpu"
    assert x.stride() == (3, 1) and x.stride(0) == 3 and x.t().stride(-1) == 3
    assert x.is_contiguous() and not x.t().is_contiguous() and x.t().contiguous().is_contiguous()
    assert x.element_size() == x.itemsize == 8 and x.ndimension() == x.dim() == 2
    y = x.requires_grad_().mT.contiguous()
    assert y.is_contiguous() and y.requires_grad


def test_new_tensors() -> None:
    x = fathom.zeros(1, dtype=fathom.float64)
    assert x.new_tensor([1]).dtype == np.float64 and x.new_tensor([1.0]).tolist() == [1.0]
    assert x.new_zeros(2, 3).shape == (2, 3) and x.new_ones((2,)).tolist() == [1.0, 1.0]
    assert x.new_full((2,), 3).tolist() == [3.0, 3.0] and x.new_empty(2).shape == (2,)
    assert x.new_ones(2, dtype=fathom.long).dtype == np.int64
    assert x.new_zeros(2, requires_grad=True).requires_grad


def test_conversions() -> None:
    x = fathom.tensor([0.5, 2.0])
    kinds = [x.half(), x.float(), x.double(), x.int(), x.long(), x.bool()]
    assert [str(k.dtype) for k in kinds] == "float16 float32 float64 int32 int64 bool".split()


def test_format_and_plus() -> None:
    x = fathom.tensor(3.14159)
    assert f"{x:.3f}" == "3.142" and f"{x:8.1f}|" == "     3.1|" and f"{x}" == str(x)
    assert f"{fathom.tensor([1.0])}" == "tensor([1.])" and +x is x
    with pytest.raises(ShapeError, match="single number"):
        f"{fathom.ones(2):.3f}"


def test_detach_in_place_and_retains_grad() -> None:
    x = leaf([1.0])
    y = x * 2
    assert not y.retains_grad and not x.retains_grad
    y.retain_grad()
    assert y.retains_grad
    assert y.detach_() is y and y.is_leaf and not y.requires_grad and not y.retains_grad
    z = (x * 2)[:]
    with pytest.raises(GraphError, match="view"):
        z.detach_()


def test_more_in_place() -> None:
    x = fathom.tensor([-1.0, 0.0, 1.0])
    memory = x.data
    assert x.clone().relu_().tolist() == [0.0, 0.0, 1.0]
    np.testing.assert_allclose(x.clone().tanh_().data, np.tanh(memory), rtol=1e-6)
    np.testing.assert_allclose(x.clone().sigmoid_().data, 1 / (1 + np.exp(-memory)), rtol=1e-6)
    x.index_put_((fathom.tensor([0, 0]),), fathom.ones(2), accumulate=True)
    assert x.tolist() == [1.0, 0.0, 1.0] and x.data is memory
    with fathom.seed(0):
        assert 2 <= float(x.uniform_(2, 3).min()) and float(x.max()) < 3
        assert abs(float(fathom.zeros(1000).normal_(5.0, 0.1).mean()) - 5) < 0.1
    w = leaf([1.0, 2.0])
    y = w * 1
    y.tanh_()
    y.sum().backward()
    np.testing.assert_allclose(w.grad.data, 1 - np.tanh([1.0, 2.0]) ** 2, rtol=1e-6)
    with pytest.raises(GraphError):
        w.normal_()
    for wrong in (lambda: x.uniform_(1, 0), lambda: x.normal_(0, -1)):
        with pytest.raises(ArgumentError):
            wrong()


WAYS = {
    "asarray": lambda x: np.asarray(x),
    "array": lambda x: np.array(x),
    "list": lambda x: np.array([x, x]),
    "concatenate": lambda x: np.concatenate([x, x]),
    "stack": lambda x: np.stack([x, x]),
}


@pytest.mark.parametrize("way", WAYS)
def test_numpy_does_not_lose_a_history_silently(way) -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(GraphError, match="silently"):
        WAYS[way](x)
    with pytest.raises(GraphError, match="silently"):
        WAYS[way](x * 2)
    assert WAYS[way](x.detach()).size in (2, 4)


def test_numpy_functions_with_an_op_are_recorded() -> None:
    x, array = leaf([1.0, 2.0]), np.array([3.0, 4.0], np.float32)
    for y in (np.exp(x), array * x, x * array, np.copysign(x, -1.0), np.positive(x)):
        assert isinstance(y, fathom.Tensor) and y.requires_grad
    assert float(x[0]) == 1.0 and x.tolist() == [1.0, 2.0]


def test_reductions_are_checked_first() -> None:
    for wrong in (None, "average", 3):
        with pytest.raises(ArgumentError, match="reduction"):
            fathom.nn.functional.cross_entropy(fathom.zeros(2, 3), [0, 1], reduction=wrong)
