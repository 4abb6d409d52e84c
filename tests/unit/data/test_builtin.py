"""The shipped data sets against scikit-learn's, and what importing and loading must not do."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fathom.data import builtin as module
from fathom.data import diabetes, digits, iris
from fathom.engine.errors import MissingFileError

datasets = pytest.importorskip("sklearn.datasets")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (digits, datasets.load_digits),
        (iris, datasets.load_iris),
        (diabetes, lambda: datasets.load_diabetes(scaled=False)),
    ],
)
def test_same_values_as_scikit_learn(ours, theirs):
    data, source = ours(), theirs()
    np.testing.assert_array_equal(data.x, source.data.astype(np.float32))
    np.testing.assert_array_equal(data.y, source.target)
    if ours is not digits:
        assert data.feature_names == tuple(source.feature_names)


def test_origins_and_shapes_are_told():
    for make in (digits, iris, diabetes):
        data = make()
        assert data.licence and data.description
    assert digits().image_shape == (8, 8)
    assert iris().classes == ("setosa", "versicolor", "virginica")
    notes = (Path(module.__file__).parent / "files" / "LICENCES.md").read_text("utf-8")
    assert all(name in notes for name in ("digits.npz", "iris.npz", "diabetes.npz"))


def test_files_hold_plain_arrays():
    for file in (Path(module.__file__).parent / "files").glob("*.npz"):
        with np.load(file, allow_pickle=False) as stored:
            assert all(stored[key].dtype.kind in "ufU" for key in stored.files)


def test_a_file_that_is_not_installed():
    with pytest.raises(MissingFileError, match="'wine' is not in this installation"):
        module._arrays("wine")


def test_importing_loads_nothing_heavy():
    code = (
        "import sys, fathom.data; fathom.data.load('iris');"
        "heavy = {'pooch', 'requests', 'sklearn', 'scipy', 'pandas', 'matplotlib'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(module.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == "[]"
