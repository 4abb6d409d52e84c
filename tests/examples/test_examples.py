"""Every example runs in its short form, in a process of its own, and finds what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(name: str, *options: str, data: str | None = None) -> subprocess.CompletedProcess[str]:
    """`python examples/name.py --quick`, on one thread: several run at a time in a test suite."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    if data is not None:
        environment |= {"FATHOM_DATA": data, "FATHOM_CACHE": data}
    return subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), "--quick", *options],
        env=environment, capture_output=True, text=True, encoding="utf-8", timeout=100, check=False,
    )  # fmt: skip


def numbers(pattern: str, printed: str) -> list[float]:
    """The numbers in the groups of a pattern that must occur in what was printed."""
    found = re.search(pattern, printed)
    assert found is not None, f"{pattern!r} not in:\n{printed}"
    return [float(group) for group in found.groups()]


# what the last lines say, and what must hold of the numbers in it
PROMISES = {
    "mlp_digits": (r"test accuracy ([\d.]+)%", lambda accuracy: accuracy > 85),
    "cnn_mnist": (r"test accuracy ([\d.]+)%", lambda accuracy: accuracy > 88),
    "char_lstm": (
        r"2-gram +([\d.]+)[^$]*weights\) ([\d.]+) is (?:not )?below the 3-gram baseline ([\d.]+)",
        lambda two, lstm, three: lstm < two - 0.2 and three < two,
    ),
    "char_transformer": (
        r"2-gram +([\d.]+)[^$]*weights\) ([\d.]+) is (?:not )?below the 3-gram baseline ([\d.]+)",
        lambda two, transformer, three: transformer < two and three < two,
    ),
    "quantile_regression": (
        r"coverage of the 10-90 % band ([\d.]+)%, (\d+)% narrower",
        lambda coverage, narrower: 70 < coverage < 90 and narrower > 15,
    ),
    "deep_selu": (
        r"plain ReLU +([\de.+-]+) [^$]*SELU +([\de.+-]+) [^$]*best: \w+ with .* ([\d.]+)%",
        lambda plain, selu, best: plain < 1e-4 and 0.1 < selu < 10 and best > 70,
    ),
    "distillation": (
        r"soft labels are worth ([+-][\d.]+) points",
        lambda gain: gain > 0,
    ),
    "quantization": (
        r"8 bits: accuracy ([\d.]+)% instead of ([\d.]+)%, ([\d.]+) times smaller",
        lambda after, before, smaller: abs(after - before) < 2 and smaller > 3.5,
    ),
    "maml_sine": (
        r"error after one step: MAML ([\d.]+) is below ([\d.]+)",
        lambda maml, plain: maml < 0.8 * plain,
    ),
    "gan_1d": (
        r"share of the left hill ([\d.]+) [^$]*loss of D ([\d.]+) .*, of G ([\d.]+) .* the data "
        r"([\d.]+), at the start ([\d.]+)",
        lambda left, d, g, after, before: (
            0.15 < left < 0.55
            and abs(d - 1.386) < 0.1
            and abs(g - 0.693) < 0.1
            and after < 0.3 * before
        ),
    ),
    "forgetting": (
        r"falls from ([\d.]+)% to ([\d.]+)%; with rehearsal it is ([\d.]+)%",
        lambda before, plain, rehearsed: before > 85 and plain < 20 and rehearsed > 60,
    ),
    "look_inside": (
        r"b.grad = (-[\d.]+)[^$]*in layer: 3 \(Entropy\)[^$]*(\d) of 6 elements are wrong",
        lambda gradient, wrong: gradient == -1.4796 and wrong == 6,
    ),
}
DRAWS_PNG = sorted(set(PROMISES) - {"look_inside"})


def test_every_example_has_a_promise() -> None:
    scripts = {file.stem for file in EXAMPLES.glob("*.py")} - {"common"}
    assert scripts == set(PROMISES)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PROMISES))
def test_quick(name: str, tmp_path: Path) -> None:
    done = run(name, "--out", str(tmp_path / "figures"))
    assert done.returncode == 0, done.stderr
    pattern, holds = PROMISES[name]
    found = numbers(pattern, done.stdout)
    if "not found (set FATHOM_DATA)" not in done.stdout:  # with less data nothing is promised
        assert holds(*found), done.stdout
    assert re.search(r"^Next: .+\.$", done.stdout.strip().splitlines()[-1]), "says what to try next"
    assert "Warning" not in done.stderr, done.stderr
    figure = tmp_path / "figures" / (f"{name}.png" if name in DRAWS_PNG else f"{name}.svg")
    assert figure.stat().st_size > 2000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["char_transformer", "cnn_mnist"])
def test_without_data_it_says_so_and_goes_on(name: str, tmp_path: Path) -> None:
    done = run(name, data=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert re.search(r"not found \(set FATHOM_DATA\): .+ instead", done.stdout)


@pytest.mark.slow
def test_same_seed_same_result() -> None:
    first, again, other = (run("mlp_digits", "--seed", seed).stdout for seed in ("3", "3", "4"))
    timeless = [re.sub(r"in [\d.]+ s", "", printed) for printed in (first, again, other)]
    assert timeless[0] == timeless[1] != timeless[2]
