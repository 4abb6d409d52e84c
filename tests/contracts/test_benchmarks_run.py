"""The benchmarks run, without torch too, and their JSON has its shape. No time is asserted."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def run(script, out, *options):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, str(FOLDER / script), "--quick", "--threads", "1", "--json", str(out),
         *options],
        capture_output=True, text=True, check=True, env=environment, cwd=out.parent,
    ).stdout  # fmt: skip


def module(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "libraries", "cases"),
    [("step.py", ["fathom"], 4), ("overhead.py", ["fathom", "numpy", "tape"], 2)],
)
def test_quick_run(tmp_path, script, libraries, cases):
    text = run(script, tmp_path / "out.json", "--libraries", *libraries)
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["libraries"] == libraries
    assert set(report["machine"]) == {"cpu", "cores", "threads", "system"}
    assert report["machine"]["threads"] == 1
    assert {"python", "fathom", "numpy"} <= set(report["versions"])
    assert len(report["results"]) == cases
    for result in report["results"]:
        assert result["case"] in text
        assert set(result["microseconds"]) == set(result["rounds"]) == set(libraries)
        assert all(len(values) == 2 and min(values) > 0 for values in result["rounds"].values())
        assert set(result["ratio"]) == set(libraries[1:])


@pytest.mark.slow
def test_compiled_runs_without_other_libraries(tmp_path):
    """One row in its quickest form; the limits and the JSON are there, and the text names both."""
    row = "2-16-16-2 b32"
    text = run("compiled.py", tmp_path / "out.json", "--only", row,
               "--libraries", "fathom", "eager", "copy")  # fmt: skip
    report = json.loads((tmp_path / "out.json").read_text())
    (result,) = report["results"]
    assert report["libraries"] == ["fathom", "eager", "copy"]
    assert report["machine"]["threads"] == 1
    assert min(report["limits"].values()) > 0
    assert result["case"] == row and row in text
    assert set(result["microseconds"]) == {"fathom", "eager"}
    assert result["ratio"]["eager"]["median"] > 0
    assert result["skipped"] == {"copy": "memory is not its limit"}
    assert result["differs"] == []
    assert result["checks"]["fathom"] == pytest.approx(result["checks"]["eager"], rel=1e-4)
    assert report["first"] == report["memory"] == []


@pytest.mark.skipif(os.name == "nt", reason="the interpreter is stood in for by a shell script")
@pytest.mark.parametrize("broken", ["absent", "ends"])
def test_compiled_says_why_a_library_is_left_out(tmp_path, broken):
    """The run goes on without it, and the reason is in the table."""
    (tmp_path / "jax.py").write_text("raise ImportError('no JAX here')")
    start = "exit 1" if broken == "ends" else f'PYTHONPATH={tmp_path} exec "{sys.executable}" "$@"'
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{start}\n")
    python.chmod(0o755)
    text = run("compiled.py", tmp_path / "out.json", "--only", "Adam", "--libraries", "copy",
               "jax", "--python", f"jax={python}")  # fmt: skip
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["libraries"] == ["copy"]
    why = report["absent"]["jax"]
    assert ("its process ended" if broken == "ends" else "ImportError: no JAX here") in why
    assert f"jax left out: {why}" in text


def test_another_loss_is_told():
    differing = module("compiled").differing
    checks = {"fathom": [1.0, 2.0], "torch": [1.0001, 2.0], "jax": [1.0, 2.1], "sklearn": []}
    assert differing(checks) == ["jax"]


def test_rows_are_found_by_name_part_or_kind():
    rows = module("compiled").chosen_rows
    assert [r.name for r in rows(["relu"])] == ["relu"]  # not relu6
    assert next(r.name for r in rows(["2-16-16-2"])) == "2-16-16-2 b32"
    assert {r.kind for r in rows(["activation", "adam"])} == {"activation", "adam"}
    assert len({r.kind for r in rows(None)}) == 5


def test_summary_takes_ratios_within_rounds():
    found = module("harness").summary("c", {"a": [1.0, 2.0, 4.0], "b": [3.0, 4.0, 4.0]})
    assert found["microseconds"] == {"a": 2.0, "b": 4.0}
    assert found["ratio"] == {"b": {"median": 2.0, "low": 1.0, "high": 3.0}}


def test_the_bare_tape_is_right():
    """A yardstick that computed something else would measure nothing."""
    tape = module("overhead")
    a = tape.Value(np.array([1.0, -2.0, 3.0]))
    b = tape.Value(np.array([2.0, 5.0, -1.0]))
    ((a * b + a).relu() * a).sum().backward()
    live = (a.data * b.data + a.data) > 0
    np.testing.assert_allclose(a.grad, live * 2 * a.data * (b.data + 1))
    np.testing.assert_allclose(b.grad, live * a.data**2)


@pytest.mark.parametrize("case", ["2-16-16-2 b32", "64-64-32-10 b64"])
def test_both_sides_have_the_same_layers(case):
    """The models that are timed have the same layers."""
    pytest.importorskip("torch")
    step = module("step")
    ours, theirs = (make(case)[0].__closure__ for make in (step.fathom_step, step.torch_step))
    shapes = []
    for cells in (ours, theirs):
        model = next(c.cell_contents for c in cells if hasattr(c.cell_contents, "parameters"))
        shapes.append([tuple(p.shape) for p in model.parameters()])
    assert shapes[0] == shapes[1]
