"""Make the files in fathom/data/files/ from the copies that scikit-learn carries.

Run from the root of the project, with scikit-learn installed: python scripts/make_builtin_data.py
The same scikit-learn data give the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes, load_digits, load_iris

FOLDER = Path(__file__).resolve().parents[1] / "fathom" / "data" / "files"


def digits() -> dict[str, Any]:
    source = load_digits()
    names = [f"pixel {row},{column}" for row in range(8) for column in range(8)]
    x = source.data.astype(np.uint8)
    return {"x": x, "y": source.target.astype(np.uint8), "features": names, "classes": range(10)}


def iris() -> dict[str, Any]:
    source = load_iris()
    return {
        "x": source.data.astype(np.float32),
        "y": source.target.astype(np.uint8),
        "features": source.feature_names,
        "classes": source.target_names,
    }


def diabetes() -> dict[str, Any]:
    source = load_diabetes(scaled=False)
    return {
        "x": source.data.astype(np.float32),
        "y": source.target.astype(np.float32),
        "features": source.feature_names,
        "classes": [],
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for make in (digits, iris, diabetes):
        parts = make()
        for key in ("features", "classes"):
            parts[key] = np.array([str(name) for name in parts[key]], dtype=np.str_)
        file = FOLDER / f"{make.__name__}.npz"
        np.savez_compressed(file, **parts)
        print(f"{file.name}: {len(parts['x'])} rows, {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
