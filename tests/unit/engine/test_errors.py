"""Errors that teach: operation, shapes with the clashing axis marked, layer, a fix; warnings."""

import inspect
import pickle
import warnings

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine import errors, primitive
from fathom.engine.errors import (
    DtypeError,
    FathomError,
    FreedGraphWarning,
    OuterBroadcastWarning,
    ShapeError,
    mark_axes,
    suggest,
)


def leaf(values, **keywords):
    return fathom.tensor(values, requires_grad=True, **keywords)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ShapeError, ValueError),
        (errors.DtypeError, TypeError),
        (errors.AxisError, IndexError),
        (errors.ArgumentError, ValueError),
        (errors.GraphError, RuntimeError),
        (errors.GraphFreedError, RuntimeError),
        (errors.InplaceError, RuntimeError),
        (errors.DivergedError, ArithmeticError),
        (errors.DataError, ValueError),
        (errors.MissingFileError, FileNotFoundError),
        (errors.OutputError, OSError),
        (errors.CheckpointError, ValueError),
    ],
)
def test_every_error_is_also_the_builtin_one_would_catch(kind, builtin) -> None:
    assert issubclass(kind, builtin) and issubclass(kind, FathomError)
    assert str(kind("what", fix="how")) == "what\n  try: how"


def test_mark_axes_and_suggest() -> None:
    assert mark_axes((2, 3), [-1]) == "(2, >3<)" and mark_axes((3,), [0]) == "(>3<,)"
    assert mark_axes((), []) == "()"
    assert suggest("adm", ["adam", "sgd"]) == "did you mean 'adam'? known: adam, sgd"
    assert suggest("xyz", ["adam", "sgd"]) == "known: adam, sgd"


@pytest.mark.parametrize(
    ("run", "parts"),
    [
        (
            lambda: fathom.ones(3, 4) + fathom.ones(3, 5),
            ["add: shapes (3, >4<) and (3, >5<) do not broadcast"],
        ),
        (lambda: fathom.ones(3, 4) * fathom.ones(4, 3), ["(>3<, >4<)", "transposed?"]),
        (lambda: fathom.ones(5, 4) - fathom.ones(5), ["(5, >4<)", "(>5<,)", "(5, 1)"]),
        (lambda: fathom.ones(2, 3) @ fathom.ones(4, 5), ["matmul", ">3<", ">4<"]),
        (lambda: fathom.ones(2) + "a", ["add", "str"]),
        (lambda: fathom.exp({}), ["exp", "dict"]),
        (lambda: fathom.ones(2, 3).sum(axis=2), ["axis 2", "2 axes"]),
        (lambda: fathom.ones(2, 3).reshape(4), ["reshape", "(2, 3)", "4"]),
    ],
)
def test_messages_name_operation_and_axes(run, parts) -> None:
    with pytest.raises(FathomError) as error:
        run()
    for part in parts:
        assert part in str(error.value)


def test_the_path_of_the_layer() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 8), nn.Linear(9, 2))

        def forward(self, x):
            return self.inner(x)

    with pytest.raises(ShapeError, match=r"in layer: inner\.1 \(Linear\)"):
        Block()(fathom.ones(2, 4))


def test_errors_pickle() -> None:
    error = pickle.loads(pickle.dumps(ShapeError("what", fix="how")))
    assert str(error) == "what\n  try: how"


def test_lists_are_taken_as_arrays() -> None:
    x = fathom.ones(3)
    assert x.add([1.0, 2.0, 3.0]).tolist() == [2.0, 3.0, 4.0]
    assert fathom.maximum([1.0, 5.0], fathom.tensor([2.0, 3.0])).tolist() == [2.0, 5.0]


def test_primitives_on_arrays_stay_numpy() -> None:
    assert type(fathom.exp(np.zeros(2))) is np.ndarray


def test_unexplained_errors_keep_their_reason() -> None:
    strange = primitive.Primitive("strange", "general", lambda x: np.linalg.inv(x), listed=False)
    with pytest.raises(ShapeError, match=r"strange: .*\(arguments \(2, 3\)\)"):
        strange(fathom.ones(2, 3))

    def bad_rule(*values: object) -> tuple[int, ...]:
        raise KeyError("broken")

    def bad(x: object, axis: int) -> object:
        raise TypeError("cannot")

    broken = primitive.Primitive("broken", "general", bad, shape=bad_rule, listed=False)
    with pytest.raises(DtypeError, match="broken: cannot"):
        broken(fathom.ones(2), axis=1)


# -- warnings ------------------------------------------------------------------------------------


def here() -> int:
    return inspect.currentframe().f_back.f_lineno


def test_total_plus_loss_warns_once_at_its_line() -> None:
    w, total = leaf([1.0, 2.0]), 0.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            loss = (w * w).sum()
            loss.backward()
            total = total + loss; place = here()  # fmt: skip # noqa: E702
    (warning,) = caught
    assert warning.category is FreedGraphWarning
    assert warning.filename == __file__ and warning.lineno == place
    text = str(warning.message)
    assert f"test_errors.py:{place}: add is recorded on the result of sum" in text
    assert "loss.item()" in text and "retain_graph=True" in text


def test_in_place_total_and_unary_warn_too() -> None:
    w, total = leaf([1.0, 2.0]), fathom.zeros(1)
    loss = (w * w).sum()
    loss.backward()
    with pytest.warns(FreedGraphWarning, match="add"):
        total += loss
    with pytest.warns(FreedGraphWarning, match="exp is recorded on the result of sum"):
        fathom.exp(loss)


def test_no_warning_where_nothing_is_wrong() -> None:
    w = leaf([1.0, 2.0])
    total = 0.0
    for _ in range(2):
        loss = (w * w).sum()
        loss.backward()
        total += loss.item()
        total = total + loss.detach()
        with fathom.no_grad():
            total = total + loss
        _ = loss > 0
    kept = (w * w).sum()
    kept.backward(retain_graph=True)
    (kept * 2).backward()


def test_outer_broadcast_warns_at_its_line() -> None:
    n = 4200  # n x n floats: 70 MB
    x, y = fathom.ones(n, 1), fathom.ones(n)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            x - y; place = here()  # fmt: skip # noqa: E702
    (warning,) = caught
    assert warning.category is OuterBroadcastWarning
    assert warning.lineno == place and warning.filename == __file__
    assert "sub of (4200, 1) and (4200,) gives (4200, 4200), 67 MB" in str(warning.message)
    assert "reshape" in str(warning.message)


def test_outer_broadcast_is_silent_for_small_or_meant_ones(monkeypatch) -> None:
    fathom.ones(1000, 1) - fathom.ones(1000)  # 4 MB
    monkeypatch.setattr(primitive, "LARGE", 1000)
    fathom.ones(40, 1) - fathom.ones(40)  # 40 times
    fathom.ones(100, 100) - fathom.ones(100)  # one input is as large
    fathom.ones(100, 100) + 1.0
    fathom.exp(fathom.ones(100, 100))
    fathom.matmul(fathom.ones(100, 1), fathom.ones(1, 100))  # says what it does
    with pytest.warns(OuterBroadcastWarning, match=r"\(70, 1\) and \(70,\)"):
        fathom.ones(70, 1) * fathom.ones(70)


def test_warnings_can_be_errors() -> None:
    w = leaf([1.0])
    loss = (w * w).sum()
    loss.backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FreedGraphWarning):
            loss + 1
