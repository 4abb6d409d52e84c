"""The floor of what memory limits: a plain copy that reads and writes as many bytes."""

from __future__ import annotations

import numpy as np

from libraries.work import Job, Row, Skip, moved

BLOCK = 1 << 18  # bytes at once: memcpy goes around the caches with larger ones


def make(row: Row) -> Job:
    if not moved(row):
        raise Skip("memory is not its limit")
    size = int(moved(row)) // 2
    source, target = np.ones(size, np.uint8), np.empty(size, np.uint8)
    parts = [(target[i : i + BLOCK], source[i : i + BLOCK]) for i in range(0, size, BLOCK)]

    def copy() -> None:
        for to, of in parts:
            np.copyto(to, of)

    return Job(copy, lambda _: [])
