import numpy as np
import pytest

import fathom
from fathom import nn, optim
from fathom.engine.errors import ArgumentError, DivergedError, FathomError


def parameter(value=1.0, grad=None, dtype=np.float64):
    p = nn.Parameter(np.asarray(value, dtype))
    p.grad = None if grad is None else fathom.tensor(np.asarray(grad, dtype))
    return p


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: optim.SGD([p], lr=-1), "SGD: lr must be a number >= 0"),
        (lambda p: optim.SGD([p], lr=float("nan")), "lr"),
        (lambda p: optim.SGD([p], lr="0.1"), "lr"),
        (lambda p: optim.SGD([p], momentum=1.0), r"momentum must lie in \[0, 1\)"),
        (lambda p: optim.SGD([p], weight_decay=-0.1), "weight_decay"),
        (lambda p: optim.SGD([p], nesterov=True), "nesterov needs a momentum"),
        (lambda p: optim.SGD([p], momentum=0.9, dampening=0.1, nesterov=True), "no dampening"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), r"betas\[1\]"),
        (lambda p: optim.Adam([p], betas=0.9), "betas are two numbers"),
        (lambda p: optim.Adam([p], betas=(0.9,)), "betas are two numbers"),
        (lambda p: optim.Adam([p], eps=-1e-8), "eps"),
        (lambda p: optim.Adam([p], lr=float("inf")), "lr"),
        (lambda p: optim.SGD([]), "at least one parameter"),
        (lambda p: optim.SGD(iter(())), "at least one parameter"),
        (lambda p: optim.SGD(p), "a list of parameters; received one tensor"),
        (lambda p: optim.SGD([p, p]), "appears twice"),
        (lambda p: optim.SGD([{"params": [p]}, {"params": [p]}]), "appears twice"),
        (lambda p: optim.SGD([p * 2]), "not a leaf"),
        (lambda p: optim.SGD([p, 3.0]), "parameter 1 is a float"),
        (lambda p: optim.SGD([{"params": [p], "lrr": 1}]), "unknown option 'lrr'"),
        (lambda p: optim.make("adma", [p]), "did you mean 'adam'"),
        (lambda p: optim.make("rmspop", [p]), "did you mean 'rmsprop'"),
        (lambda p: optim.make("adam", [p], momentum=0.9), "momentum"),
        (lambda p: optim.make(None, [p]), "unknown optimizer"),
    ],
)
def test_bad_arguments(make, text):
    with pytest.raises(ArgumentError, match=text):
        make(parameter())


def test_one_step_of_each_by_hand():
    p = parameter([1.0, 2.0], grad=[0.5, -1.0])
    optim.SGD([p], lr=0.1).step()
    assert p.tolist() == [0.95, 2.1]
    p = parameter([1.0, 2.0], grad=[0.5, -1.0])
    optim.Adam([p], lr=0.1, eps=0.0).step()
    np.testing.assert_allclose(p.value(), [0.9, 2.1])  # the first step is lr * sign(gradient)


def test_zero_grad():
    p = parameter(1.0, grad=1.0)
    optimizer = optim.SGD([p])
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == 0.0
    optimizer.zero_grad()
    assert p.grad is None


def test_a_step_is_an_in_place_write_the_tape_notices():
    p = parameter([2.0])
    loss = (p * p).sum()
    p.grad = fathom.tensor(np.array([1.0]))
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(FathomError, match="edited in place"):
        loss.backward()


def test_mixed_float_types_keep_their_own():
    a, b = parameter([1.0], [1.0], np.float32), parameter([1.0], [1.0], np.float64)
    optim.Adam([a, b], lr=0.1).step()
    assert (a.dtype, b.dtype) == (np.float32, np.float64)
    assert a.item() == pytest.approx(b.item())


def test_many_parameters_beyond_one_block_are_all_stepped():
    ps = [parameter(np.zeros(50_001), np.ones(50_001)) for _ in range(3)]
    optim.SGD(ps, lr=1.0, momentum=0.5).step()
    for p in ps:
        assert (p.value() == -1.0).all()


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_check_finite_leaves_all_groups_alone(bad):
    a, b = parameter([1.0], [1.0]), parameter([1.0], [bad])
    optimizer = optim.SGD([{"params": [a]}, {"params": [b]}], lr=0.1)
    optimizer.check_finite = True
    with pytest.raises(DivergedError, match="left as they are"):
        optimizer.step()
    assert (a.item(), b.item()) == (1.0, 1.0)


def test_gradients_whose_squares_overflow_cause_no_warning():
    p = parameter([1.0], [1e30], np.float32)
    optim.Adam([p], lr=0.1).step()
    assert p.item() == 1.0  # m / sqrt(inf)


def test_load_state_dict_of_other_groups():
    a, b = parameter(), parameter()
    saved = optim.SGD([a]).state_dict()
    with pytest.raises(ArgumentError, match="other parameter groups"):
        optim.SGD([a, b]).load_state_dict(saved)


def test_the_state_dict_is_a_copy():
    p = parameter([1.0], [1.0])
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    optimizer.step()
    saved = optimizer.state_dict()
    optimizer.step()
    assert saved["state"][0]["momentum_buffer"].tolist() == [1.0]


def test_repr_and_config():
    optimizer = optim.SGD([parameter()], lr=0.5)
    assert repr(optimizer).startswith("SGD(lr=0.5, momentum=0.0")
    assert optimizer.config()["lr"] == 0.5
