"""IDX: round trips for every type and shape; damage of every kind is a `DataError`."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fathom.data import read_idx, write_idx
from fathom.engine.errors import ArgumentError, DataError, MissingFileError, OutputError

TYPES = ["u1", "i1", "i2", "i4", "f4", "f8"]
SAMPLE = np.array([[1, 2, 3], [4, 5, 6]], np.int16)


@settings(max_examples=150)
@given(
    array=st.sampled_from(TYPES).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, min_side=0, max_dims=4))
    ),
    suffix=st.sampled_from(["", ".gz"]),
)
def test_round_trip(tmp_path_factory, array, suffix):
    path = tmp_path_factory.mktemp("idx") / f"a{suffix}"
    write_idx(path, array)
    back = read_idx(path)
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable


@pytest.mark.parametrize("kind", TYPES)
def test_both_byte_orders_can_be_written(tmp_path, kind):
    for order in "<>":
        write_idx(tmp_path / "a", np.arange(5).astype(np.dtype(kind).newbyteorder(order)))
        assert read_idx(tmp_path / "a").tolist() == [0, 1, 2, 3, 4]


def test_known_bytes(tmp_path):
    write_idx(tmp_path / "a", SAMPLE)
    head = bytes([0, 0, 0x0B, 2]) + struct.pack(">II", 2, 3)
    assert (tmp_path / "a").read_bytes() == head + struct.pack(">6h", 1, 2, 3, 4, 5, 6)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_gzip_is_recognized_by_content_and_repeatable(tmp_path):
    write_idx(tmp_path / "a.gz", SAMPLE)
    first = (tmp_path / "a.gz").read_bytes()
    write_idx(tmp_path / "a.gz", SAMPLE)
    assert (tmp_path / "a.gz").read_bytes() == first
    (tmp_path / "plain").write_bytes(first)
    np.testing.assert_array_equal(read_idx(tmp_path / "plain"), SAMPLE)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_cut_off_at_every_byte(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_idx(path, SAMPLE)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=path.name):
            read_idx(path)


@pytest.mark.parametrize("packed", [False, True])
def test_every_value_of_every_header_byte(tmp_path, packed):
    """No other header fits these twelve bytes of values."""
    path = tmp_path / "a"
    write_idx(path, SAMPLE)
    whole = path.read_bytes()
    for place in range(12):
        for value in range(256):
            damaged = bytearray(whole)
            damaged[place] = value
            path.write_bytes(gzip.compress(damaged, 1) if packed else damaged)
            if bytes(damaged) == whole:
                continue
            with pytest.raises(DataError):
                read_idx(path)


def test_every_byte_of_a_gzip_file_flipped(tmp_path):
    path = tmp_path / "a.gz"
    write_idx(path, SAMPLE)
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(read_idx(path), SAMPLE)  # time and system are not data
        except DataError:
            refused += 1
    assert refused >= len(whole) - 6


def header(code, *shape):
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected 4 bytes at offset 0, got 0"),
        (b"PK\x03\x04data", "expected bytes 00 00 at offset 0, got 50 4b"),
        (b"a,b,c\n1,2,3\n", "not an IDX file"),
        (header(0x0A, 1) + b"x", "unknown type code 0a at offset 2; known: 08"),
        (header(0x08, *[1] * 65) + b"x", "65 axes at offset 3"),
        (header(0x08, 3) + b"ab", "expected 3 bytes from offset 8|3 bytes from offset 8, more"),
        (header(0x08, 3) + b"abcd", "expected 3 bytes from offset 8, got more"),
        (header(0x08, 3)[:6], "expected 4 bytes for the sizes of 1 axes at offset 4, got 2"),
        (header(0x0E, *[2**32 - 1] * 5) + b"ab", "more than the file can hold"),
        (header(0x08, 0, *[2**32 - 1] * 5), "no array can have"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, content, message):
    path = tmp_path / "bad.idx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert "bad.idx" in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_a_hostile_header_takes_no_memory(tmp_path, packed):
    content = header(0x0E, 2**32 - 1, 2**32 - 1) + bytes(100)
    path = tmp_path / "huge"
    path.write_bytes(gzip.compress(content) if packed else content)
    tracemalloc.start()
    with pytest.raises(DataError, match="more than the file can hold"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_packed_header_within_the_ratio_reads_only_what_is_there(tmp_path):
    content = header(0x08, 50_000_000) + np.random.default_rng(0).bytes(100_000)
    (tmp_path / "a.gz").write_bytes(gzip.compress(content, 1))
    tracemalloc.start()
    with pytest.raises(DataError, match="got only 100,000"):
        read_idx(tmp_path / "a.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_corrupted_gzip(tmp_path):
    write_idx(tmp_path / "a.gz", np.arange(1000, dtype=np.int32))
    content = bytearray((tmp_path / "a.gz").read_bytes())
    content[len(content) // 2] ^= 0x55
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(DataError, match="gzip data are damaged"):
        read_idx(tmp_path / "a.gz")


def test_missing_file_names_the_nearest(tmp_path):
    write_idx(tmp_path / "train-images.idx", SAMPLE)
    with pytest.raises(MissingFileError, match=r"did you mean 'train-images\.idx'"):
        read_idx(tmp_path / "train-image.idx")


def test_missing_folder(tmp_path):
    with pytest.raises(MissingFileError, match=r"the folder .* does not exist either"):
        read_idx(tmp_path / "nowhere" / "a.idx")


def test_folder_instead_of_a_file(tmp_path):
    with pytest.raises(DataError, match="is a folder, not a file"):
        read_idx(tmp_path)


@pytest.mark.parametrize("kind", ["i8", "u2", "?", "f2", "c8", "U3", "O"])
def test_types_that_idx_lacks(tmp_path, kind):
    with pytest.raises(ArgumentError, match="an IDX file cannot hold"):
        write_idx(tmp_path / "a", np.zeros(2, kind))
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        write_idx(tmp_path / "nowhere" / "a", SAMPLE)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_idx(tmp_path / "folder", SAMPLE)
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
