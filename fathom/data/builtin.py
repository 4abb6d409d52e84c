"""The data sets inside the package: digits, iris, diabetes. Origins: files/LICENCES.md."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.data.dataset import Dataset
from fathom.engine.errors import MissingFileError


def digits() -> Dataset:
    """1,797 handwritten digits as 8 x 8 images; `x` (1797, 64) counts 0 ... 16, `y` the digit.

    Test part of *Optical Recognition of Handwritten Digits* (Alpaydin and Kaynak, 1998), UCI.

    >>> data = digits()
    >>> data, data.image_shape, float(data.x.max())
    (Dataset(digits: 1,797 rows, 64 features, 10 classes), (8, 8), 16.0)
    """
    return Dataset(
        **_arrays("digits"),
        task="classification",
        target_name="digit",
        image_shape=(8, 8),
        description="Handwritten digits of 13 writers, 8 x 8 pixels; each pixel counts the set "
        "points (0 ... 16) in a 4 x 4 block of the 32 x 32 original.",
        licence="CC BY 4.0; E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, "
        "Optical Recognition of Handwritten Digits (test part)",
    )


def iris() -> Dataset:
    """150 iris flowers of three species; `x` (150, 4) holds lengths in cm.

    R. A. Fisher (1936), The use of multiple measurements in taxonomic problems.

    >>> data = iris()
    >>> data.classes, data.feature_names[0]
    (('setosa', 'versicolor', 'virginica'), 'sepal length (cm)')
    """
    return Dataset(
        **_arrays("iris"),
        task="classification",
        target_name="species",
        description="Length and width of sepal and petal of 50 flowers of each of three species "
        "of iris; one species is linearly separable from the other two.",
        licence="CC BY 4.0; R. A. Fisher (1936), UCI Machine Learning Repository, Iris",
    )


def diabetes() -> Dataset:
    """442 diabetes patients; `x` (442, 10) in original units, `y` the progression after a year.

    Efron, Hastie, Johnstone and Tibshirani (2004), Least angle regression.

    >>> data = diabetes()
    >>> data, float(data.y.min()), float(data.y.max())
    (Dataset(diabetes: 442 rows, 10 features, regression), 25.0, 346.0)
    """
    return Dataset(
        **_arrays("diabetes"),
        task="regression",
        target_name="progression",
        description="Age (years), sex (1 or 2), body mass index, mean blood pressure and six "
        "blood serum values (s1 total cholesterol, s2 LDL, s3 HDL, s4 cholesterol/HDL, s5 log "
        "triglycerides, s6 glucose); the target measures disease progression a year later.",
        licence="published with Efron, Hastie, Johnstone and Tibshirani (2004), Annals of "
        "Statistics 32, without a licence statement; distributed with scikit-learn",
    )


def _arrays(name: str) -> dict[str, Any]:
    from importlib import resources

    file = resources.files("fathom.data") / "files" / f"{name}.npz"
    if not file.is_file():
        raise MissingFileError(
            f"the built-in data set {name!r} is not in this installation ({file})",
            fix="install Fathom again; its wheel contains the file",
        )
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        parts: dict[str, NDArray[Any]] = {key: stored[key] for key in stored.files}
    return {
        "name": name,
        "x": parts["x"],
        "y": parts["y"],
        "feature_names": tuple(parts["features"].tolist()),
        "classes": tuple(parts["classes"].tolist()),
    }
