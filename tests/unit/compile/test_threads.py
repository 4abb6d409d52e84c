"""The pool: every part of every task is done once, by whoever comes first."""

import ctypes
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from fathom.compile.native import threads
from fathom.compile.native.code import even
from fathom.compile.native.engine import Compiler

# counts[part] += 1, and sums[thread's part] grows by what it reads, so that parts take time
TASK = """
declare void @fathom.fork(ptr, ptr, ptr, ptr, i64)

define internal void @count(ptr %table, ptr %numbers, i64 %part) {
entry:
  %place = getelementptr i64, ptr %table, i64 %part
  br label %turn
turn:
  %k = phi i64 [0, %entry], [%k1, %turn]
  %k1 = add i64 %k, 1
  %more = icmp ult i64 %k1, 50
  br i1 %more, label %turn, label %done
done:
  %before = load i64, ptr %place, align 8
  %after = add i64 %before, 1
  store i64 %after, ptr %place, align 8
  ret void
}

define void @many(ptr %pool, ptr %counts, i64 %tasks, i64 %parts) {
entry:
  br label %turn
turn:
  %k = phi i64 [0, %entry], [%k1, %turn]
  call void @fathom.fork(ptr %pool, ptr @count, ptr %counts, ptr null, i64 %parts)
  %k1 = add i64 %k, 1
  %more = icmp ult i64 %k1, %tasks
  br i1 %more, label %turn, label %done
done:
  ret void
}
"""


@pytest.fixture(scope="module")
def many():
    symbols = {"fathom.fork": threads.POOL.fork(3)}
    library = Compiler(cache=False).compile(TASK, symbols=symbols)
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function = library.function("many", pointer, pointer, number, number)

    def run(tasks, parts):
        counts = np.zeros(parts, np.int64)
        function(threads.POOL.address, counts.ctypes.data, tasks, parts)
        return counts.tolist()

    return run


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_every_part_of_every_task_once(many, parts):
    assert many(20_000, parts) == [20_000] * parts


def test_workers_that_slept_are_woken(many):
    for _ in range(5):
        time.sleep(0.05)  # long enough for them to sleep
        assert many(10, 3) == [10] * 3


def test_callers_at_the_same_time_do_not_disturb_each_other(many):
    found = []
    callers = [threading.Thread(target=lambda: found.append(many(5_000, 4))) for _ in range(4)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    assert found == [[5_000] * 4] * 4


def test_the_pool_is_idle_afterwards(many):
    many(1000, 3)
    assert threads.POOL.field(threads.BUSY).value == 0
    assert threads.POOL.field(threads.PARTS).value == 0


def test_number_of_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.count() == 3
    monkeypatch.setenv("FATHOM_NUM_THREADS", "5")
    assert threads.count() == 5
    monkeypatch.setenv("FATHOM_NUM_THREADS", "none")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads.count() >= 1


@pytest.mark.parametrize("n", [1, 2, 7, 20, 64, 100])
@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("step", [1, 8])
def test_cuts_cover_everything_once(n, parts, step):
    cuts = even(n, parts, step)
    assert [a for a, _ in cuts] == [0, *[b for _, b in cuts[:-1]]] and cuts[-1][1] == n
    assert len(cuts) <= parts and all(a < b for a, b in cuts)


PROGRAM = """
import os, sys
import numpy as np, fathom
from fathom.compile.native import code
code.HEAVY_PRODUCT = code.HEAVY_LOOPS = 1
f = fathom.compile(lambda x: (x @ x).exp().sum(), backend="native")
x = fathom.tensor(np.eye(32, dtype=np.float32))
first = f(x).item()
child = os.fork()
if child == 0:
    os._exit(0 if f(x).item() == first else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_can_go_on():
    """The child has no workers, so it does all parts itself; and the process can end."""
    environment = {**os.environ, "FATHOM_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, timeout=60)
    assert done.returncode == 0
