"""What a tensor is, what goes in and out of it, and how it copies, pickles and prints."""

import copy
import pickle

import numpy as np
import pytest

import fathom
from fathom import Tensor, nn
from fathom.engine.errors import DtypeError, GraphError, ShapeError


def leaf(values, **keywords):
    return fathom.tensor(values, requires_grad=True, **keywords)


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        ([1.0, 2.0], np.float32),
        (1.5, np.float32),
        ([1, 2], np.int64),
        (True, np.bool_),
        (np.ones(2), np.float64),
        (np.ones(2, np.float16), np.float16),
        (np.float64(2.0), np.float64),
        ([np.float32(1.0), 2.0], np.float32),
    ],
)
def test_dtype_of_data(data, dtype) -> None:
    assert fathom.tensor(data).dtype == dtype


def test_constructor_shares_memory_and_tensor_copies() -> None:
    array = np.zeros(2, np.float32)
    shared, copied = Tensor(array), fathom.tensor(array)
    array[0] = 7
    assert shared.tolist() == [7.0, 0.0]
    assert copied.tolist() == [0.0, 0.0]


def test_lists_may_hold_tensors() -> None:
    x = fathom.tensor([fathom.tensor(1.0), fathom.tensor(2.0)])
    assert x.tolist() == [1.0, 2.0] and x.dtype == np.float32


def test_ragged_lists_and_text_are_refused() -> None:
    with pytest.raises(ShapeError, match="every row needs the same length"):
        fathom.tensor([[1.0, 2.0], [3.0]])
    with pytest.raises(DtypeError, match="received <U1"):
        fathom.tensor(np.array(["a"]))
    with pytest.raises(DtypeError, match="complex128"):
        fathom.tensor(np.array([1j]))


def test_attributes() -> None:
    x = fathom.zeros(2, 3)
    assert (x.shape, x.ndim, x.size, x.nbytes, len(x)) == ((2, 3), 2, 6, 24, 2)
    assert x.is_leaf and x.grad_fn is None and x.node is None and x.version == 0
    y = leaf([1.0]) * 2
    assert not y.is_leaf and y.grad_fn is y.node and y.node.name() == "mul"
    x.name = "weights"
    assert x.name == "weights" and fathom.zeros(1).name is None
    assert Tensor([1.0], name="bias").name == "bias"


def test_only_floats_require_grad() -> None:
    with pytest.raises(DtypeError, match="holds int64"):
        fathom.tensor([1, 2], requires_grad=True)
    x = leaf([1.0])
    assert x.requires_grad_(False) is x and not x.requires_grad
    with pytest.raises(GraphError, match=r"made by mul(?s:.)*\.detach\(\)"):
        (leaf([1.0]) * 2).requires_grad_(False)


def test_numpy_refuses_to_lose_history() -> None:
    x = leaf([1.0])
    with pytest.raises(GraphError, match=r"x\.detach\(\)\.numpy\(\)"):
        x.numpy()
    y = x.detach()
    y.numpy()[0] = 5  # shares memory, as in PyTorch
    assert x.tolist() == [5.0]


def test_numbers() -> None:
    x = fathom.tensor(2.5)
    assert (float(x), int(x), x.item(), bool(x)) == (2.5, 2, 2.5, True)
    assert [10, 20, 30][fathom.tensor(1)] == 20
    with pytest.raises(DtypeError, match="index"):
        [1, 2][fathom.tensor(1.0)]
    with pytest.raises(ShapeError, match="exactly one element"):
        fathom.zeros(2).item()
    with pytest.raises(ShapeError, match="ambiguous"):
        bool(fathom.zeros(2))
    with pytest.raises(ShapeError, match="no length"):
        len(x)


def test_equality_is_elementwise_and_hash_is_identity() -> None:
    x, y = fathom.tensor([1.0, 2.0]), fathom.tensor([1.0, 3.0])
    assert (x == y).tolist() == [True, False]
    assert len({x, y, x}) == 2


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: fathom.tensor([1.0, 2.0]), "tensor([1., 2.])"),
        (lambda: fathom.tensor([1, 2]), "tensor([1, 2])"),
        (lambda: fathom.tensor(1.0, np.float64), "tensor(1., dtype=float64)"),
        (lambda: leaf([1.0]), "tensor([1.], requires_grad=True)"),
        (lambda: leaf([1.0]) * 2, "tensor([2.], op=mul)"),
    ],
)
def test_repr(make, text) -> None:
    assert repr(make()) == text


def test_repr_shows_the_gradient() -> None:
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    assert repr(x) == "tensor([1., 2.], requires_grad=True, grad=[2., 4.])"


def test_detach_shares_memory_and_version() -> None:
    x = leaf([1.0, 2.0])
    y = x * 2
    d = y.detach()
    assert not d.requires_grad and d.is_leaf
    d += 1
    assert y.tolist() == [3.0, 5.0]
    assert y.version == d.version == 1


def test_deep_copy_is_its_own() -> None:
    x = leaf([1.0, 2.0])
    x.name = "x"
    (x * x).sum().backward()
    y = copy.deepcopy(x)
    assert y.requires_grad and y.name == "x" and y.grad.tolist() == [2.0, 4.0]
    y.data[0] = 9
    y.grad.data[0] = 9
    assert x.tolist() == [1.0, 2.0] and x.grad.tolist() == [2.0, 4.0]
    twice = copy.deepcopy([x, x])
    assert twice[0] is twice[1]
    with pytest.raises(GraphError, match="deep-copied; this tensor was made by mul"):
        copy.deepcopy(x * 2)


def test_pickle_keeps_class_values_and_flags() -> None:
    p = nn.Parameter([1.0, 2.0])
    p.name = "w"
    q = pickle.loads(pickle.dumps(p))
    assert type(q) is nn.Parameter and q.requires_grad and q.name == "w"
    assert q.tolist() == [1.0, 2.0] and q.dtype == np.float32
    with pytest.raises(GraphError, match="pickled"):
        pickle.dumps(p * 2)


def test_deep_copied_model_trains_on_its_own() -> None:
    model = nn.Linear(2, 1)
    twin = copy.deepcopy(model)
    twin(fathom.ones(1, 2)).sum().backward()
    assert twin.weight.grad is not None and model.weight.grad is None
    assert not np.shares_memory(twin.weight.data, model.weight.data)


@pytest.mark.parametrize(
    "expression",
    [
        lambda a, x: a + x,
        lambda a, x: a - x,
        lambda a, x: a * x,
        lambda a, x: a / x,
        lambda a, x: a**x,
        lambda a, x: np.maximum(a, x),
        lambda a, x: np.exp(x) * a,
        lambda a, x: np.float64(2.0) * x,
        lambda a, x: 2 - x,
        lambda a, x: 2 / x,
        lambda a, x: 2**x,
    ],
)
def test_array_or_number_on_the_left_keeps_history(expression) -> None:
    a, x = np.array([2.0, 3.0], np.float32), leaf([1.0, 2.0])
    y = expression(a, x)
    assert isinstance(y, Tensor) and y.requires_grad and y.dtype == np.float32
    np.testing.assert_allclose(y.detach().numpy(), expression(a, x.detach().numpy()), rtol=1e-6)


def test_array_matmul_tensor() -> None:
    a, x = np.arange(6, dtype=np.float32).reshape(2, 3), leaf(np.ones((3, 2), np.float32))
    (a @ x).sum().backward()
    assert x.grad.tolist() == [[3.0, 3.0], [5.0, 5.0], [7.0, 7.0]]


def test_unknown_ufunc_computes_only_without_history() -> None:
    assert np.cbrt(fathom.tensor([8.0])).tolist() == [2.0]
    assert np.add.reduce(fathom.tensor([1.0, 2.0])) == 3.0
    with pytest.raises(GraphError, match=r"np\.cbrt"):
        np.cbrt(leaf([8.0]))
    array = np.ones(2, np.float32)
    with pytest.raises(GraphError, match="detach"):
        array += leaf([1.0, 2.0])


def test_array_protocols() -> None:
    x = fathom.tensor([1.0, 2.0])
    assert np.asarray(x).dtype == np.float32
    assert np.asarray(x, np.float64).dtype == np.float64
    assert np.shares_memory(np.from_dlpack(x), x.data)


def test_python_numbers_are_weak() -> None:
    for kind in (np.float16, np.float32, np.float64):
        x = fathom.ones(2, dtype=kind)
        for y in (x + 1, x * 2.5, 1 - x, x**2, x / 3, (x + 1).mean()):
            assert y.dtype == kind


def test_float64_scalar_does_not_upcast_an_array() -> None:
    x = fathom.ones(2)
    assert (x * np.float64(2)).dtype == np.float32
    assert (x + fathom.tensor(2.0, np.float64)).dtype == np.float32
    assert (x + fathom.ones(2, dtype=np.float64)).dtype == np.float64
