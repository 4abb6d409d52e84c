"""The IDX format of the MNIST files: read and written, plain or gzipped.

Two zero bytes, a type code, the number of axes, each axis as a big-endian 32-bit count, then
the values, big-endian, last axis fastest (LeCun, Cortes and Burges, 1998).
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fathom.data._checks import FilePath, existing_file, listing
from fathom.engine.errors import ArgumentError, DataError, OutputError

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
CODES = {np.dtype(kind).newbyteorder("="): code for code, kind in TYPES.items()}
MAX_AXES = 64  # of a NumPy array
MAX_RATIO = 1032  # no deflate stream grows more than this
CHUNK = 1 << 20
Stream = IO[bytes] | gzip.GzipFile


def read_idx(path: FilePath) -> NDArray[Any]:
    """The array in an IDX file, in the byte order of this machine; gzip is recognized by itself.

    Raises `MissingFileError`, or `DataError` (with offset, expected and found bytes) for anything
    that is not exactly one IDX array. What the header promises is checked against the size of
    the file before memory is taken for it.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "small.idx"
    >>> write_idx(path, np.array([[1, 2], [3, 4]], np.uint8))
    >>> read_idx(path).tolist()
    [[1, 2], [3, 4]]
    """
    file = existing_file(path)
    try:
        with open(file, "rb") as raw:
            size = os.fstat(raw.fileno()).st_size
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not packed:
                return _read(raw, file, size)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _read(stream, file, size * MAX_RATIO)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{file}: the gzip data are damaged or cut off ({error})",
            fix="fetch or copy the file again",
        ) from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def _read(stream: Stream, file: Path, limit: int) -> NDArray[Any]:
    kind, shape = _header(stream, file)
    start, expected = 4 + 4 * len(shape), math.prod(shape) * kind.itemsize
    size = " x ".join(map(str, shape))
    promise = f"{file}: the header promises {size or 'one'} values of {kind.itemsize} bytes"
    if start + expected > limit:
        raise DataError(
            f"{promise}: {expected:,} bytes from offset {start}, "
            f"more than the file can hold (at most {max(limit - start, 0):,})",
            fix="the file is cut off or its header is damaged; fetch it again",
        )
    values = _at_most(stream, expected + 1)
    if len(values) != expected:
        got = f"only {len(values):,}" if len(values) < expected else "more"
        raise DataError(
            f"{promise}: expected {expected:,} bytes from offset {start}, got {got}",
            fix="the file is cut off or its header is damaged; fetch it again",
        )
    try:
        array = np.frombuffer(values, kind).reshape(shape)
    except ValueError as error:
        raise DataError(f"{promise}, which no array can have ({error})") from error
    return array.astype(kind.newbyteorder("="), copy=False)


def _header(stream: Stream, file: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = _at_most(stream, 4)
    if len(magic) < 4:
        raise DataError(f"{file}: expected 4 bytes at offset 0, got {len(magic)}: not an IDX file")
    if magic[:2] != b"\0\0":
        raise DataError(
            f"{file}: expected bytes 00 00 at offset 0, got {magic[:2].hex(' ')}: not an IDX file",
            fix="IDX files are named like train-images-idx3-ubyte.gz; CSV files go to read_csv",
        )
    if magic[2] not in TYPES:
        known = listing(f"{code:02x} ({np.dtype(kind).name})" for code, kind in TYPES.items())
        raise DataError(f"{file}: unknown type code {magic[2]:02x} at offset 2; known: {known}")
    axes = magic[3]
    if axes > MAX_AXES:
        raise DataError(f"{file}: {axes} axes at offset 3; an array has at most {MAX_AXES}")
    counts = _at_most(stream, 4 * axes)
    if len(counts) < 4 * axes:
        raise DataError(
            f"{file}: expected {4 * axes} bytes for the sizes of {axes} axes at offset 4, "
            f"got {len(counts)}"
        )
    return np.dtype(TYPES[magic[2]]), struct.unpack(f">{axes}I", counts)


def _at_most(stream: Stream, count: int) -> bytearray:
    """Up to `count` bytes, in pieces: a huge count must not reserve memory."""
    values = bytearray()
    while len(values) < count:
        piece = stream.read(min(CHUNK, count - len(values)))
        if not piece:
            break
        values += piece
    return values


def write_idx(path: FilePath, array: NDArray[Any]) -> None:
    """Write an array as IDX, gzipped if the name ends in .gz; the same array gives the same bytes.

    Raises `ArgumentError` for a type that IDX lacks, `OutputError` if it cannot be written.
    """
    array, file = np.asarray(array), Path(path)
    native = array.dtype.newbyteorder("=")
    if native not in CODES:
        known = listing(kind.name for kind in CODES)
        raise ArgumentError(
            f"an IDX file cannot hold {array.dtype}; it can hold {known}",
            fix="convert first, for instance array.astype(np.int32)",
        )
    code = CODES[native]
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(TYPES[code]).tobytes()
    if file.name.endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    aside = file.with_name(file.name + ".part")
    try:
        aside.write_bytes(content)
        os.replace(aside, file)
    except OSError as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise OutputError(f"{file} cannot be written: {error.strerror or error}") from error
