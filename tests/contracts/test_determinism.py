"""Same seed, same bytes; a run resumed is the run that never stopped.

Bitwise equality is promised for one machine, one NumPy and one number of BLAS threads: with
another number of threads a matrix product may add its terms in another order.
"""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fathom
from fathom import nn, optim
from fathom.engine.random import current
from fathom.train import Callback, EarlyStopping, ModelCheckpoint

RNG = np.random.default_rng(0)
X = RNG.standard_normal((90, 5)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(int)

SCRIPT = """
import hashlib, json
import numpy as np
import fathom
from fathom import nn

x = (np.arange(64 * 40, dtype=np.float32).reshape(64, 40) * 0.37) % 1 - 0.5
y = (np.arange(64) % 3).astype(int)
with fathom.seed(11):
    model = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 3))
history = model.fit(x, y, epochs=3, validation_split=0.25, lr=0.01, seed=5, verbose=False)
blob = b"".join(t.value().tobytes() for t in model.state_dict().values())
print(json.dumps({
    "weights": hashlib.sha256(blob).hexdigest(), "history": history.to_dict(),
    "sum": float(sum(np.abs(t.value()).sum() for t in model.state_dict().values())),
}))
"""


def net(seed=0):
    with fathom.seed(seed):
        return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 2))


def digest(model):
    blob = b"".join(t.value().tobytes() for t in model.state_dict().values())
    return hashlib.sha256(blob).hexdigest()


def fit(model, name="adam", **options):
    optimizer = (
        optim.Adam(model.parameters(), lr=0.02, weight_decay=0.01)
        if name == "adam"
        else optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    )
    return model.fit(
        X, Y, batch_size=16, optimizer=optimizer, validation_split=0.2, verbose=False, **options
    )


def in_a_new_process(threads="1", hash_seed="0"):
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, threads), "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_the_same_seed_twice(name):
    runs = []
    for seed in (1, 1, 2):
        model = net()
        history = fit(model, name, epochs=3, seed=seed)
        runs.append((digest(model), history.to_dict()))
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]


def test_in_new_processes_with_other_hash_seeds():
    first, second = in_a_new_process(hash_seed="1"), in_a_new_process(hash_seed="2")
    assert first == second


def test_another_number_of_threads_is_close():
    one, two = in_a_new_process(threads="1"), in_a_new_process(threads="2")
    assert two["sum"] == pytest.approx(one["sum"], rel=1e-4)
    assert two["history"]["loss"] == pytest.approx(one["history"]["loss"], rel=1e-3)


@pytest.mark.parametrize("name", ["adam", "sgd"])
@pytest.mark.parametrize("patience", [None, 3])
def test_ten_epochs_are_four_and_a_save_and_six(tmp_path, name, patience):
    straight, whole = net(), EarlyStopping(patience=patience)
    history = fit(straight, name, epochs=10, callbacks=[whole], seed=3)

    fit(
        net(), name, epochs=4, callbacks=[EarlyStopping(patience=patience)], seed=3,
        checkpoint=tmp_path / "run",
    )  # fmt: skip
    resumed, part = net(seed=99), EarlyStopping(patience=patience)
    continued = fit(resumed, name, epochs=10, callbacks=[part], seed=3, resume=tmp_path / "run")
    assert digest(resumed) == digest(straight)
    assert continued.to_dict() == history.to_dict()
    assert continued.stop_reason == history.stop_reason
    assert (part.best, part.best_epoch) == (whole.best, whole.best_epoch)
    assert part.weights.keys() == whole.weights.keys()
    for key, value in whole.weights.items():
        np.testing.assert_array_equal(part.weights[key], value)


def test_the_last_weights_too_without_early_stopping(tmp_path):
    straight = net()
    fit(straight, epochs=10, seed=3)
    fit(net(), epochs=4, seed=3, checkpoint=tmp_path / "run")
    resumed = net(seed=99)
    fit(resumed, epochs=10, seed=3, resume=tmp_path / "run")
    assert digest(resumed) == digest(straight)


def test_resuming_after_every_epoch(tmp_path):
    straight = net()
    fit(straight, epochs=5, seed=3)
    fit(net(), epochs=1, seed=3, checkpoint=tmp_path / "run")
    for epochs in range(2, 6):
        model = net(seed=epochs)
        fit(model, epochs=epochs, resume=tmp_path / "run", checkpoint=tmp_path / "run")
    assert digest(model) == digest(straight)


def test_a_run_stopped_by_ctrl_c_goes_on_from_its_last_epoch(tmp_path):
    class Interrupt(Callback):
        def on_batch_end(self, trainer, batch, loss):
            if (trainer.epoch, batch) == (4, 2):
                raise KeyboardInterrupt

    straight = net()
    fit(straight, epochs=6, seed=3)
    fit(net(), epochs=6, seed=3, callbacks=[Interrupt()], checkpoint=tmp_path / "run")
    resumed = net(seed=99)
    fit(resumed, epochs=6, resume=tmp_path / "run")
    assert digest(resumed) == digest(straight)


def test_looking_on_changes_nothing(tmp_path):
    class Busy(Callback):
        def on_batch_end(self, trainer, batch, loss):
            trainer.model.predict(X[:3])

        def on_epoch_end(self, trainer, epoch, logs):
            trainer.model.evaluate(X, Y)
            trainer.model.summary()
            current().stream("mine").normal((7,))
            with fathom.seed(0):
                current().stream("dropout").normal((7,))

    plain, watched = net(), net()
    fit(plain, epochs=4, seed=3)
    fit(
        watched, epochs=4, seed=3,
        callbacks=[Busy(), ModelCheckpoint(tmp_path / "run"), EarlyStopping(
            patience=None, restore_best_weights=False)],
    )  # fmt: skip
    assert digest(watched) == digest(plain)


def test_the_callers_random_streams_are_left_alone():
    with fathom.seed(7) as rng:
        before = rng.state_dict()
        model = nn.Linear(5, 2)
        drawn = rng.state_dict()
        fit(model, epochs=2)
        assert rng.state_dict() == drawn
    assert drawn != before
