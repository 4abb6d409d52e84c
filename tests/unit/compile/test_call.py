"""What happens around the native code of a call: tests, checks, addresses, and what is left."""

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.compile.guards import MISS
from fathom.compile.native.address import address, slow
from fathom.nn import functional as F
from tests.compiled import BACKENDS

native = pytest.mark.skipif("native" not in BACKENDS, reason="native code is left out")


def classifier(classes=3):
    with fathom.seed(0):
        model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, classes))
    optimizer = fathom.optim.Adam(model.parameters(), lr=0.1)

    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return model, optimizer, step


def batch(rows=4, seed=0):
    rng = np.random.default_rng(seed)
    x = fathom.tensor(rng.normal(size=(rows, 2)).astype(np.float32))
    return x, fathom.tensor(rng.integers(0, 3, rows))


def everything(model, optimizer):
    state = optimizer.state_dict()["state"]
    held = [v for _, s in sorted(state.items()) for _, v in sorted(s.items())]
    return [np.array(v, copy=True) for v in (*model.state_dict().values(), *held)]


def entry_of(compiled):
    (entry,) = [e for entries in compiled._entries.values() for e in entries]
    return entry


# -- checks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_labels_out_of_range_are_refused_as_in_eager_and_nothing_changes(calls, backend):
    model, optimizer, step = classifier()
    compiled = fathom.compile(step, backend=backend)
    x, y = batch()
    for _ in range(calls):
        compiled(x, y)
    if not calls:  # a trace goes by the labels of its first call
        compiled(*batch(seed=9))
    before = everything(model, optimizer)
    wrong = y.numpy().copy()
    wrong[2] = 3
    with pytest.raises(fathom.FathomError) as eager:
        step(x, fathom.tensor(wrong))
    assert all(map(np.array_equal, before, everything(model, optimizer)))
    for given in (fathom.tensor(wrong), y):
        given.data[:] = wrong  # at last in the array that was fine before
        with pytest.raises(type(eager.value)) as error:
            compiled(x, given)
        assert str(error.value) == str(eager.value)
        assert all(map(np.array_equal, before, everything(model, optimizer)))
        assert all(p.grad is None for p in model.parameters())
    twin, _, other = classifier()
    for _ in range(calls):
        other(*batch())
    if not calls:
        other(*batch(seed=9))
    assert float(compiled(*batch())) == pytest.approx(float(other(*batch())), rel=1e-5)
    assert len(compiled.plans) == 1
    for mine, its in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), its.detach().numpy(), rtol=1e-4)


@native
def test_a_step_with_checked_labels_is_one_native_function():
    compiled = fathom.compile(classifier()[2], backend="native")
    compiled(*batch())
    assert entry_of(compiled).program.parts == ["part0"]


@native
def test_the_first_check_that_fails_is_the_one_that_is_told():
    _, _, step = classifier()

    def twice(x, y, z):
        return step(x, y).detach() + step(x, z).detach()

    compiled = fathom.compile(twice, backend="native")
    (x, y), (_, z) = batch(), batch(seed=1)
    compiled(x, y, z)
    for at, bad in ((0, 5), (1, 7)):
        labels = [y.numpy().copy(), z.numpy().copy()]
        labels[at][0] = bad
        with pytest.raises(fathom.FathomError, match=str(bad)):
            compiled(x, *map(fathom.tensor, labels))
    compiled(x, y, z)
    assert len(compiled.plans) == 1


# -- the quick way ---------------------------------------------------------------------------


def quick_of(compiled, *args):
    """Whether the quick way takes a call with these arguments."""
    return compiled._quick is not None and compiled._quick(args) is not MISS


@native
def test_calls_with_new_arrays_go_the_quick_way():
    model, _, step = classifier()
    twin, _, other = classifier()
    compiled = fathom.compile(step, backend="native")
    for i in range(2):
        assert float(compiled(*batch(seed=i))) == pytest.approx(float(other(*batch(seed=i))))
    for i in range(2, 6):
        assert quick_of(compiled, *batch(seed=i))
        other(*batch(seed=i))
    for mine, its in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), its.detach().numpy(), rtol=1e-4)


@native
@pytest.mark.parametrize(
    "other",
    [
        lambda x: fathom.tensor(np.zeros((5, 3), np.float32)),
        lambda x: fathom.tensor(np.zeros((4, 3))),
        lambda x: x.numpy(),
        lambda x: fathom.Tensor(np.zeros((4, 3), np.float32)[:, ::-1]),
        lambda x: nn.Parameter(np.zeros((4, 3), np.float32)),
        lambda x: None,
        lambda x: [x],
    ],
    ids=["shape", "dtype", "array", "steps", "parameter", "none", "list"],
)
def test_other_arguments_do_not(other):
    compiled = fathom.compile(lambda x: 0 if x is None else 2 * x, backend="native")
    x = fathom.tensor(np.ones((4, 3), np.float32))
    compiled(x), compiled(x)
    assert quick_of(compiled, x)
    assert not quick_of(compiled, other(x))
    assert not quick_of(compiled) and not quick_of(compiled, x, x)
    with fathom.no_grad():
        assert not quick_of(compiled, x)
    assert quick_of(compiled, x)


@native
def test_an_array_that_changes_its_shape_in_place_is_noticed():
    compiled = fathom.compile(lambda x: x.sum(axis=0), backend="native")
    array = np.arange(6.0, dtype=np.float32)
    x = fathom.tensor(array).reshape(2, 3).detach()
    x.data = array.reshape(2, 3).copy()
    compiled(x), compiled(x)
    assert quick_of(compiled, x)
    x.data.resize((3, 2), refcheck=False)
    np.testing.assert_array_equal(compiled(x).numpy(), [6.0, 9.0])


@pytest.mark.parametrize("form", ["tuple", "list", "mixed"])
def test_nests_texts_and_numbers_among_the_arguments(form, backend):
    def total(pair, how, times, flag=None):
        a, b = pair
        return (a * times + b) if how == "sum" else a - b

    compiled = fathom.compile(total, backend=backend)
    make = {"tuple": tuple, "list": list, "mixed": tuple}[form]
    for i in range(4):
        a, b = fathom.tensor([1.0 + i]), fathom.tensor([10.0])
        given = make([a, b.numpy() if form == "mixed" else b])
        assert float(compiled(given, "sum", 3)) == 3.0 * (1 + i) + 10
        assert float(compiled(given, "sum", 3, None)) == 3.0 * (1 + i) + 10
        assert float(compiled(given, "difference", 3)) == i - 9.0
        assert float(compiled(given, "sum", 4)) == 4.0 * (1 + i) + 10
        assert float(compiled(given, "sum", 4.0)) == 4.0 * (1 + i) + 10
        assert float(compiled(given, "sum", True)) == 1.0 * (1 + i) + 10


def test_a_guard_whose_object_is_gone_is_a_guard_that_fails(backend):
    class Holder:
        factor = 2.0

    holder = Holder()
    holder.factor = 3.0
    compiled = fathom.compile(lambda x: x * holder.factor, backend=backend)
    x = fathom.tensor([1.0])
    assert [float(compiled(x)) for _ in range(3)] == [3.0] * 3
    del holder.factor
    assert float(compiled(x)) == 2.0
    holder.factor = 5.0
    assert [float(compiled(x)) for _ in range(3)] == [5.0] * 3


def test_names_of_the_user_are_not_those_of_the_code(backend):
    args, v, t, core, bound = 2.0, 3.0, [4.0], {"x": 5.0}, "sum"

    def total(x, pair):
        return x * args * v * t[0] * core["x"] * (len(bound) + pair[0])

    compiled = fathom.compile(total, backend=backend)
    x = fathom.tensor([1.0])
    assert [float(compiled(x, (i,))) for i in (1, 1, 1, 2)] == [480.0] * 3 + [600.0]
    args, t[0] = 1.0, 8.0
    assert [float(compiled(x, (2,))) for _ in range(3)] == [600.0] * 3


def test_weights_that_move_are_found(backend):
    model, _, step = classifier()
    twin, _, other = classifier()
    compiled = fathom.compile(step, backend=backend)
    for i in range(6):
        if i > 2:
            for m in (model, twin):
                for p in m.parameters():
                    p.data = p.data * np.float32(0.5)
        assert float(compiled(*batch())) == pytest.approx(float(other(*batch())), rel=1e-5)
    assert len(compiled.plans) == 1


def test_an_argument_in_whose_memory_the_weights_move(backend):
    """It was elsewhere when it was first met: what the step reads is what it held before."""

    def made():
        w = nn.Parameter(np.ones((3, 3), np.float32))
        optimizer = fathom.optim.SGD([w], lr=0.5)

        def step(x):
            loss = (x * w.sum(axis=1) + x.sum() * w).sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        return w, step

    w, step = made()
    v, eager = made()
    x, z = (fathom.tensor(np.arange(9, dtype=np.float32).reshape(3, 3) / 8) for _ in "xz")
    compiled = fathom.compile(step, backend=backend)
    for _ in range(3):
        assert float(compiled(x)) == pytest.approx(float(eager(z)))
    w.data, v.data = x.data, z.data
    for _ in range(3):
        assert float(compiled(x)) == pytest.approx(float(eager(z)), rel=1e-5)
        np.testing.assert_allclose(w.detach().numpy(), v.detach().numpy(), rtol=1e-5)


def test_every_call_counts_as_a_write(backend):
    model, _, step = classifier()
    compiled = fathom.compile(step, backend=backend)
    weight = next(iter(model.parameters()))
    for _ in range(3):
        compiled(*batch())
    before = weight.version
    compiled(*batch())
    assert weight.version == before + 1
    square = (weight * weight).sum()
    compiled(*batch())
    with pytest.raises(fathom.FathomError, match=r"in place|in-place|written"):
        square.backward()


def test_results_are_not_overwritten_by_later_calls(backend):
    compiled = fathom.compile(classifier()[2], backend=backend)
    losses = [compiled(*batch()) for _ in range(4)]
    values = [float(loss) for loss in losses]
    compiled(*batch())
    assert [float(loss) for loss in losses] == values and len(set(values)) == 4


# -- pieces ----------------------------------------------------------------------------------


def test_addresses():
    base = np.arange(24.0).reshape(4, 6)
    for array in (base, base[1:], base[:, 2], base.T, np.array(1.0), np.empty((0, 3))):
        assert address(array) == slow(array)


@native
def test_short_plans_keep_other_threads_waiting_and_long_ones_do_not():
    def brief(n):
        compiled = fathom.compile(lambda x: x @ x, backend="native")
        compiled(fathom.tensor(np.ones((n, n), np.float32)))
        return entry_of(compiled).program._brief()

    assert brief(16) and not brief(160)


@native
@pytest.mark.parametrize("n", [2, 5, 10, 13])
@pytest.mark.parametrize("rows", [3, 19])
def test_rows_that_are_written_out(n, rows):
    x = np.random.default_rng(n).normal(size=(rows, n)).astype(np.float32) * 30
    if rows > 1:
        x[1, n // 2] = np.nan
    for function in (F.softmax, F.log_softmax):
        compiled = fathom.compile(lambda t, f=function: f(t * 1.5, -1), backend="native")
        given = fathom.tensor(x)
        expected = function(given * 1.5, -1).numpy()
        np.testing.assert_allclose(compiled(given).numpy(), expected, rtol=2e-5, atol=1e-30)
