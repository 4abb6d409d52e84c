"""A process killed at any moment of a save leaves a whole checkpoint: the old one or the new.

Every checkpoint here is saved with one number in its weights, its optimizer and its state, so a
mixture of two would show.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fathom import nn, optim
from fathom.train import checkpoint

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

KILLS = 60

COMMON = """
import os, sys
import numpy as np
import fathom
from fathom import nn, optim
from fathom.train import checkpoint

folder = sys.argv[1]
model = nn.Sequential(nn.Linear(30, 40), nn.Linear(40, 5))
optimizer = optim.SGD(model.parameters(), lr=0.0, momentum=0.5)
for p in model.parameters():
    p.grad = fathom.tensor(np.zeros_like(p.value()))
optimizer.step()

def save(number):
    for p in model.parameters():
        p.data[...] = number
    for flat in optimizer.flats()[0]:
        flat.state["momentum_buffer"][...] = number
    best = {name: t.value() for name, t in model.state_dict().items()}
    checkpoint.save(folder, model, optimizer, {"number": number}, best)
"""

# Forks a child that saves in a loop, says its number, and buries it when it is dead.
WRITER = (
    COMMON
    + """
for line in sys.stdin:
    number = int(line)
    child = os.fork()
    if child == 0:
        while True:
            save(number)
            number += 1
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""
)

# Forks a child for every file-system event of a save and ends it there: by `how` = "kill" as a
# SIGKILL would, by "raise" as a full disk would. Reports what could be loaded afterwards.
FAULTS = (
    COMMON
    + """
import json, pathlib, shutil
from fathom.engine.errors import FathomError

how, start = sys.argv[2:4]
place = pathlib.Path(folder)
old = place.with_name(f".{place.name}.old")

class Fuse:
    left = None
    where = ""

    def burn(self, where):
        if self.left is None:
            return
        self.left -= 1
        if self.left == 0:
            self.left = None
            if how == "kill":
                os.write(report, where.encode())
                os._exit(9)
            self.where = where
            raise OSError(28, "No space left on device")

fuse = Fuse()
EVENTS = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.listdir", "os.scandir"}
sys.addaudithook(lambda event, args: fuse.burn(event) if event in EVENTS else None)
sync, write = os.fsync, checkpoint._write_file

def fsync(handle):
    fuse.burn("before fsync")
    sync(handle)
    fuse.burn("after fsync")

def write_half(path, blob):
    if fuse.left == 1:
        fuse.left = None
        path.write_bytes(blob[: len(blob) // 2])
        fuse.left = 1
    fuse.burn("half a write")
    write(path, blob)

os.fsync, checkpoint._write_file = fsync, write_half

def prepare():
    shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    if start != "nothing":
        save(1)
        (place / "notes.txt").write_text("kept")
    if start == "old":
        place.rename(old)

def look():
    try:
        found = checkpoint.load(folder)
    except FathomError as error:
        return type(error).__name__
    arrays = [*found.model.values(), *found.optimizer.values(), *found.best.values()]
    numbers = {float(v) for a in arrays for v in a.ravel()} | {found.state["state"]["number"]}
    return sorted(numbers)

results = []
for k in range(1, 1000):
    prepare()
    heard, report = os.pipe()
    child = os.fork()
    if child == 0:
        fuse.left = k
        try:
            save(2)
        except FathomError as error:
            os.write(report, fuse.where.encode())
            os._exit(8)
        finished = fuse.left is not None  # it never blew
        os.write(report, fuse.where.encode())
        os._exit(0 if finished else 7)
    os.close(report)
    where = os.read(heard, 100).decode()
    os.close(heard)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        break
    after = look()
    save(3)
    rest = sorted(e.name for e in place.parent.iterdir())
    notes = (place / "notes.txt").exists()
    results.append([k, where, code, after, look(), rest, notes])
print(json.dumps(results))
"""
)


def one_thread():
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def number_in(folder):
    """The number of the checkpoint, after a check that all its parts carry it."""
    found = checkpoint.load(folder)
    number = found.state["state"]["number"]
    for arrays in (found.model, found.optimizer, found.best):
        assert len(arrays) == 4
        for name, array in arrays.items():
            assert (array == number).all(), name
    return number


@pytest.mark.slow
def test_kill_at_random_moments(tmp_path):
    folder = tmp_path / "run"
    model = nn.Sequential(nn.Linear(30, 40), nn.Linear(40, 5))
    rng = random.Random(0)
    best = 0
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=one_thread(),
    ) as writer:  # fmt: skip
        for kill in range(KILLS):
            print(best + 1, file=writer.stdin, flush=True)
            child = int(writer.stdout.readline())
            while not folder.exists() and kill == 0:
                time.sleep(0.001)  # the first one is being written
            time.sleep(rng.uniform(0.0, 0.03))
            os.kill(child, signal.SIGKILL)
            assert writer.stdout.readline() == "dead\n"
            number = number_in(folder)
            assert number >= best, "an older checkpoint came back"
            best = number
        writer.stdin.close()
    assert best > 2  # it did write between the kills, however slow the disk
    leftovers = {entry.name for entry in tmp_path.iterdir()} - {"run", ".run.old"}
    assert len(leftovers) <= 1  # of the last kill; the earlier ones were cleared away
    checkpoint.save(folder, model, optim.SGD(model.parameters()))
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
@pytest.mark.parametrize("start", ["a checkpoint", "old", "nothing"])
@pytest.mark.parametrize("how", ["kill", "raise"])
def test_end_at_every_single_point(tmp_path, how, start):
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, str(folder), how, start],
        capture_output=True, text=True, env=one_thread(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    points = {where for _, where, *_ in results}
    assert {"open", "os.rename", "os.mkdir", "half a write", "before fsync"} <= points
    renames = sum(where == "os.rename" for _, where, *_ in results)
    assert renames == (2 if start == "a checkpoint" else 1)
    assert [k for k, *_ in results] == list(range(1, len(results) + 1))
    for k, where, code, after, later, rest, notes in results:
        place = f"event {k}: {where}"
        assert code == 9 if how == "kill" else code in (7, 8), place
        whole = ([1.0], [2.0]) if start != "nothing" else ("MissingFileError", [2.0])
        assert after in whole, place
        if code == 7:  # the save said it had worked
            assert after == [2.0], place
        assert later == [3.0], place
        assert rest == ["run"], place
        assert notes == (start != "nothing"), place


def test_the_check_notices_a_mixture(tmp_path):
    """Guards the tests above."""
    model = nn.Sequential(nn.Linear(30, 40), nn.Linear(40, 5))
    for p in model.parameters():
        p.data[...] = 1.0
    weights = {name: t.value() for name, t in model.state_dict().items()}
    checkpoint.save(tmp_path / "run", model, None, {"number": 1}, weights)
    with pytest.raises(AssertionError):
        number_in(tmp_path / "run")  # no optimizer
    weights["0.bias"] = np.zeros(40, np.float32)
    checkpoint.save(tmp_path / "run", model, None, {"number": 1}, weights)
    with pytest.raises(AssertionError):
        number_in(tmp_path / "run")
