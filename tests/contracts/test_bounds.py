"""Native code touches no memory but its own: everything in a mine field (`tests/bounds.py`).

Every layer and loss of the harness, every optimizer, whole models, the kernels' own tests and the
models of the benchmarks run in processes whose buffers all lie against forbidden pages, at their
ends (on one thread) and at their beginnings (with every loop cut into parts for two).
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fathom.compile.function import native_wanted
from tests.bounds import POSSIBLE

pytestmark = pytest.mark.skipif(
    not (POSSIBLE and native_wanted()), reason="needs mprotect and native code"
)
ROOT = Path(__file__).parents[2]
GROUPS = {
    "layers": ["tests/unit/nn"],
    "training": ["tests/contracts/test_compiled.py"],
    "kernels": [
        "tests/unit/compile/test_native_attention.py",
        "tests/unit/compile/test_native_gather.py",
        "tests/unit/compile/test_native_recurrent.py",
        "tests/unit/compile/test_native_tiles.py",
        "tests/unit/compile/test_native_windows.py",
        "tests/unit/compile/test_epoch.py",
        "tests/unit/train/test_fleet.py",
        "tests/bounds_cases.py",
    ],
}


def run(threads: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "FATHOM_NUM_THREADS": str(threads),
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTEST_ADDOPTS": "",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, check=False,
        capture_output=True, text=True, encoding="utf-8", errors="replace",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("side", "threads"), [("end", 1), ("start", 2)])
@pytest.mark.parametrize("group", GROUPS)
def test_nothing_is_touched_outside(group: str, side: str, threads: int) -> None:
    plugins = ["-p", "tests.bounds", "-p", "no:cacheprovider", "-p", "no:xdist"]
    options = ["-q", "-x", "--bounds", side, *plugins]
    done = run(threads, "-m", "pytest", *options, *GROUPS[group])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


SHIFTED = """
    import sys
    import numpy as np
    import fathom
    from tests import bounds

    side, which, shift = sys.argv[1], sys.argv[2], int(sys.argv[3])
    bounds.install(side == "end")
    plain = bounds.Guarded._address

    def shifted(self, root, offset, dtype):
        '''As if every kernel were wrong by some bytes in memory of one kind.'''
        root = self.home.get(root, root)
        computed = "arena" if root.kind == "computed" else "input"
        kind = "result" if root in self.kept_slots else computed
        slot, at = plain(self, root, offset, dtype).split(":")
        return f"{slot}:{int(at) + shift * (kind == which)}"

    bounds.Guarded._address = shifted
    x, w = (fathom.tensor(np.ones((64, 64), np.float32)) for _ in range(2))
    w.requires_grad_()

    def step(x):
        y = fathom.exp(x @ w)
        (y @ y.sum(0)).sum().backward()
        return y.detach() + 1.0

    fathom.compile(step, backend="native")(x)
    print("nobody noticed")
"""


@pytest.mark.parametrize("which", ["input", "arena", "result"])
@pytest.mark.parametrize(("side", "shift"), [("end", 4), ("start", -4)])
def test_four_bytes_too_far_are_noticed(which: str, side: str, shift: int) -> None:
    done = run(1, "-c", textwrap.dedent(SHIFTED), side, which, str(shift))
    assert done.returncode < 0, done.stdout + done.stderr


@pytest.mark.parametrize(("side", "shift"), [("end", -4), ("start", 4)])
def test_canaries_on_the_other_side_are_looked_at(side: str, shift: int) -> None:
    less = SHIFTED.replace("fathom.exp(x @ w)", "fathom.exp(x[:1, :33] @ w[:33, :33])")
    done = run(1, "-c", textwrap.dedent(less), side, "result", str(shift))
    assert done.returncode, done.stdout + done.stderr
