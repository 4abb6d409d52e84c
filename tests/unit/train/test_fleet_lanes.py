"""Networks in the lanes of vectors: as each of them is by its own compiled steps."""

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.compile.function import native_wanted
from fathom.engine.errors import FathomError
from fathom.nn import functional as F
from fathom.train.fleet import train_many
from fathom.train.squadron import Squadron

pytestmark = pytest.mark.skipif(not native_wanted(), reason="FATHOM_NATIVE=0")

DATA = fathom.data.load("moons", n=70)
X, Y = DATA.x.astype(np.float32), DATA.y
SIGNS = (X[:, 0] * X[:, 1]).astype(np.float32)
SPEC = {"epochs": 3, "batch_size": 16, "lr": 0.02}  # 4 batches and a rest of 6


def network(*layers, out=2):
    return nn.Sequential(nn.Linear(2, 8), *(make() for make in layers), nn.Linear(8, out))


def weights(run):
    """Parameters and buffers."""
    model = run.model
    return [t.value().copy() for t in (*model.parameters(), *model.buffers())]


def same(a, b):
    return [w.tobytes() for w in weights(a)] == [w.tobytes() for w in weights(b)]


@pytest.fixture
def stepped(monkeypatch):
    """`train_many`, every network by its own compiled step."""

    def train(*args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(Squadron, "_find_plans", lambda self: "")
            fleet = train_many(*args, **options)
        assert fleet.engine == "steps"
        return fleet

    return train


def agree(spec, x, y, stepped, rtol=1e-5):
    fleet, alone = (train(spec, x, y, seeds=[5]) for train in (train_many, stepped))
    assert fleet.engine == "lanes" and not fleet.note
    np.testing.assert_allclose(fleet.losses, alone.losses, rtol=rtol)
    for run, other in zip(fleet.runs, alone.runs, strict=True):
        for a, b in zip(weights(run), weights(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=10 * rtol, atol=rtol)


def smooth(output, target):
    return F.cross_entropy(output, target, label_smoothing=0.1)


MOMENTUM = {"name": "sgd", "momentum": 0.9}
CASES = {
    "relu, batch norm": ((lambda: nn.BatchNorm1d(8), nn.ReLU), {"weight_decay": 0.1}),
    "gelu, layer norm": ((lambda: nn.LayerNorm(8), nn.GELU), {"optimizer": "adamw"}),
    "silu, dropout": ((nn.SiLU, lambda: nn.Dropout(0.3)), {"optimizer": "rmsprop"}),
    "leaky, smooth": ((nn.LeakyReLU,), {"optimizer": MOMENTUM, "loss": smooth}),
    "tanh, decay": ((nn.Tanh,), {"optimizer": "sgd", "weight_decay": 0.1}),
    "elu, mse": ((nn.ELU,), {"loss": "mse", "optimizer": {**MOMENTUM, "nesterov": True}}),
    "selu, huber": ((nn.SELU,), {"loss": "huber", "optimizer": "nadam"}),
    "softplus, logits": ((nn.Softplus, lambda: nn.Linear(8, 8), nn.Sigmoid),
                         {"loss": "bce_with_logits"}),
    "hardswish, rms norm": ((nn.Hardswish, lambda: nn.RMSNorm(8)), {"optimizer": "lion"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_is_what_its_own_steps_make_of_it(case, stepped):
    layers, change = CASES[case]
    targets = {"mse": SIGNS, "huber": SIGNS, "bce_with_logits": Y.astype(np.float32)}
    loss = change.get("loss", "auto")
    y = Y if callable(loss) else targets.get(loss, Y)
    spec = {**SPEC, "model": lambda: network(*layers, out=2 if y is Y else 1), **change}
    agree(spec, X[:64], y[:64], stepped)


class Waves(nn.Module):
    """Fixed random features, kept in attributes that are no buffers."""

    def __init__(self, keep):
        super().__init__()
        self.kept = keep(fathom.random.current().stream("init").normal((8, 8)))

    def forward(self, x):
        kept = self.kept[0] if isinstance(self.kept, list) else self.kept
        return (x @ kept).sin()


@pytest.mark.parametrize("keep", [fathom.tensor, np.array, lambda a: [a]], ids=["t", "a", "list"])
def test_what_a_layer_keeps_is_its_own(keep, stepped):
    spec = {**SPEC, "model": lambda: network(lambda: Waves(keep)), "epochs": 1}
    fleet, alone = (train(spec, X[:64], Y[:64], seeds=2) for train in (train_many, stepped))
    np.testing.assert_allclose(fleet.losses, alone.losses, rtol=1e-5)


def test_what_all_networks_change_is_not_for_lanes():
    """A count of calls in a tensor outside."""
    count = fathom.tensor(np.zeros(()))

    class Counting(nn.Module):
        def forward(self, x):
            count.add_(1.0)
            return x

    fleet = train_many({**SPEC, "model": lambda: network(Counting)}, X, Y, seeds=2)
    assert fleet.engine == "steps" and "share" in fleet.note
    assert count.item() == 2 * 3 * 5


def test_after_a_hundred_steps(stepped):
    spec = {**SPEC, "model": lambda: network(nn.Tanh), "epochs": 20}
    agree(spec, X, Y, stepped, rtol=1e-4)


def test_neither_place_nor_neighbours_matter():
    """19 networks are several blocks, and lanes are left over."""
    spec = {**SPEC, "model": lambda: network(nn.ReLU, lambda: nn.Dropout(0.2)), "epochs": 2}
    fleet = train_many(spec, X, Y, seeds=19, threads=2)
    turned = train_many(spec, X, Y, seeds=[18, 3, 7], threads=1)
    for run in turned.runs:
        assert same(run, fleet.runs[run.seed])
        assert run.losses.tolist() == fleet.runs[run.seed].losses.tolist()


@pytest.mark.parametrize("lanes", [8, 16])
def test_the_width_of_vectors_does_not_matter(lanes, monkeypatch):
    from fathom.compile.native import fleet_code

    norm = lambda: nn.BatchNorm1d(8)  # noqa: E731
    spec = {**SPEC, "model": lambda: network(norm, nn.GELU, lambda: nn.Linear(8, 8), nn.Tanh)}
    narrow = train_many(spec, X[:64], Y[:64], seeds=3)  # 4 lanes
    monkeypatch.setattr(fleet_code, "lanes_for", lambda _: lanes)
    wide = train_many(spec, X[:64], Y[:64], seeds=3)
    assert all(same(a, b) for a, b in zip(wide.runs, narrow.runs, strict=True))
    assert wide.losses.tolist() == narrow.losses.tolist()


def test_learning_rates_are_numbers_of_a_lane(monkeypatch):
    made = []
    found = Squadron._find_plans
    monkeypatch.setattr(Squadron, "_find_plans", lambda self: (made.append(1), found(self))[1])
    spec = {**SPEC, "model": lambda: network(nn.Tanh), "epochs": 2}
    grid = {"lr": [0.01, 0.03, 0.1], "weight_decay": [0.0, 0.01]}
    fleet = train_many(spec, X, Y, seeds=3, grid=grid)
    assert len(made) == 2  # a step without decay, and one with
    assert len({r.losses[-1] for r in fleet.runs}) == 18
    assert [r.settings["lr"] for r in fleet.runs[::6]] == [0.01, 0.03, 0.1]
    for i in (1, 4, 17):
        run = fleet.runs[i]
        (alone,) = train_many({**spec, **run.settings}, X, Y, seeds=[run.seed]).runs
        assert same(run, alone)


def test_a_lane_that_diverges_leaves_the_others_alone():
    spec = {**SPEC, "model": lambda: network(nn.ReLU, out=1), "loss": "mse", "optimizer": "sgd"}
    fleet = train_many(spec, X, SIGNS, seeds=2, grid={"lr": [1e20, 0.02]})
    calm = train_many(spec, X, SIGNS, seeds=2)
    assert fleet.engine == "lanes"
    assert all(r.diverged and np.isnan(r.losses).any() for r in fleet.runs[:2])
    for a, b in zip(fleet.runs[2:], calm.runs, strict=True):
        assert same(a, b) and a.losses.tolist() == b.losses.tolist()


@pytest.mark.parametrize(
    "model, note",
    [
        (lambda: nn.Sequential(nn.Unflatten(1, (1, 2)), nn.Conv1d(1, 4, 2), nn.Flatten()), "conv"),
        (lambda: nn.Sequential(nn.Linear(2, 256), nn.Linear(256, 2)), "bytes, more than"),
    ],
    ids=["convolution", "large"],
)
def test_what_has_no_lanes_is_trained_in_turn(model, note, monkeypatch):
    from fathom.compile.native import fleet_code

    monkeypatch.setattr(fleet_code, "LARGEST", 20_000)
    fleet = train_many({**SPEC, "model": model, "epochs": 1}, X, Y, seeds=2)
    assert fleet.engine == "native" and note in fleet.note


def test_no_memory_is_written_but_the_blocks_own(monkeypatch):
    from fathom.compile import block

    held, room = [], 64

    def guarded(nbytes):
        whole = np.full(nbytes + 3 * room, 0xA5, np.uint8)
        start = -whole.ctypes.data % room + room
        held.append((whole[:start], whole[start + nbytes :]))
        return whole[start : start + nbytes]

    monkeypatch.setattr(block, "aligned", guarded)
    layers = (lambda: nn.BatchNorm1d(8), nn.GELU, lambda: nn.Dropout(0.5))
    fleet = train_many({**SPEC, "model": lambda: network(*layers)}, X, Y, seeds=3)
    assert fleet.engine == "lanes" and len(held) > 10
    assert all((edge == 0xA5).all() for edges in held for edge in edges)


def test_labels_are_checked():
    spec = {**SPEC, "model": lambda: network(nn.ReLU)}
    with pytest.raises(FathomError):
        train_many(spec, X, np.where(np.arange(70) == 69, 2, Y), seeds=2)
