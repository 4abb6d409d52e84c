"""`write_text`: a file that is whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

from fathom.engine.errors import OutputError


def write_text(path: Path, text: str, what: str) -> Path:
    """Write aside in UTF-8 and rename, making folders on the way; `what` names it in the error.

    Raises `OutputError` where it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        raise OutputError(
            f"cannot write {what} {path}: {error.strerror or error}",
            fix="choose a folder you may write to",
        ) from error
    finally:
        if aside.parent.is_dir():
            aside.unlink(missing_ok=True)
    return path
