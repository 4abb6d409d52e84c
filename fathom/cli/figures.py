"""Drawings of the command line, written to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fathom.engine.errors import ArgumentError, OutputError

ENDINGS = (".png", ".svg", ".pdf")


def check_path(path: Path | None) -> None:
    """Refuse a file name of a kind that is not drawn, before anything is computed."""
    if path is not None and path.suffix.lower() not in ENDINGS:
        raise ArgumentError(
            f"--plot writes {', '.join(ENDINGS)}; received {str(path)!r}",
            fix=f"--plot {path.stem or 'figure'}.png",
        )


def write(axes: Any, path: Path) -> None:
    """The figure of these axes as PNG, SVG or PDF, after the ending of `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        axes.figure.savefig(path, dpi=150)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
