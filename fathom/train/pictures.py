"""Arrays as small pictures: PNG data addresses to stand in a page, written without a library.

Colours tell things apart for colour-blind readers, too.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BLUE, ORANGE = "#2f7fc1", "#e07b1a"
CIVIDIS = (
    "00224e 002e6a 1a386f 32436d 434e6c 535a6d 61656f 6f7073 7d7c78 8c8878 9b9476 aba072 bcae6c "
    "cdbb63 dec958 f0d846 fee838"
)  # every sixteenth colour of Nuñez, Anderton & Renslow (2018)


def grey(image: Array, low: float, high: float) -> str:
    """A grey image, dark on light as ink on paper, as a PNG data address."""
    level = np.clip((image - low) / ((high - low) or 1.0), 0.0, 1.0)
    return png(np.repeat(np.round(255 * (1.0 - level)).astype(np.uint8)[..., None], 3, axis=2))


def diverging(image: Array, most: float) -> str:
    """Values from -most (blue) over 0 (white) to most (orange), as a PNG data address."""
    level = np.clip(image / most, -1.0, 1.0)[..., None]
    white, orange, blue = (np.array(c, float) for c in ((255,) * 3, (199, 84, 0), (20, 82, 154)))
    end = np.where(level > 0, orange, blue)
    return png(np.round(white + (end - white) * np.abs(level)).astype(np.uint8))


def cividis(share: Array) -> NDArray[np.uint8]:
    """Dark blue at 0 to yellow at 1 as red, green, blue; grey where the share is NaN.

    >>> cividis(np.array([0.0, 1.0, np.nan])).tolist()
    [[0, 34, 78], [254, 232, 56], [128, 128, 128]]
    """
    anchors = np.array([list(bytes.fromhex(colour)) for colour in CIVIDIS.split()], np.float64)
    places = np.linspace(0.0, 1.0, len(anchors))
    known = np.where(np.isnan(share), 0.0, share)
    colours = np.stack([np.interp(known, places, anchors[:, i]) for i in range(3)], axis=-1)
    colours[np.isnan(share)] = 128.0
    return np.round(colours).astype(np.uint8)


def png(pixels: NDArray[np.uint8]) -> str:
    """A (height, width, 3) image of bytes as a data address.

    >>> png(np.zeros((1, 1, 3), np.uint8))[:30]
    'data:image/png;base64,iVBORw0K'
    """
    height, width, _ = pixels.shape
    rows = np.concatenate(
        [np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1
    ).tobytes()

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    blob = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    blob += chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(blob).decode()
