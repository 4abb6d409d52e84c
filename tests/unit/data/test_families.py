"""MNIST and Fashion-MNIST: found, told apart, downloaded and checked."""

import functools
import hashlib
import http.server
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fathom.data import families, fashion_mnist, load, mnist, read_images, write_idx
from fathom.engine.errors import DataError, MissingFileError

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"
NAMES = tuple(families.MNIST.hashes)


@pytest.fixture
def shared_mnist():
    folder = SHARED / "mnist"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{folder} is missing")
        pytest.skip(f"{folder} is missing")
    return folder


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """An empty cache and no FATHOM_DATA; mirrors at which nobody answers."""
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FATHOM_DATA", raising=False)
    use(monkeypatch, mirrors=("http://127.0.0.1:9/",))


def use(monkeypatch, **changes):
    for name in ("MNIST", "FASHION_MNIST"):
        monkeypatch.setattr(families, name, replace(getattr(families, name), **changes))
    monkeypatch.setattr(families, "FAMILIES", (families.MNIST, families.FASHION_MNIST))


def write_part(folder, part, n=20, seed=0, suffix=".gz", side=28):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, side, side)).astype(np.uint8)
    labels = (np.arange(n) % 10).astype(np.uint8)
    write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)
    return images, labels


def test_four_files_give_train_and_test(tmp_path):
    images, labels = write_part(tmp_path / "d", "train", 40)
    write_part(tmp_path / "d", "t10k", 10, seed=1)
    data = mnist(tmp_path / "d")
    assert (len(data), len(data.test), data.image_shape) == (40, 10, (28, 28))
    np.testing.assert_allclose(data.x, images.reshape(40, 784) / 255, rtol=1e-6)
    np.testing.assert_array_equal(data.y, labels)
    parts = data.split(validation=0.25)
    assert [len(part) for part in parts] == [30, 10, 10]
    np.testing.assert_array_equal(parts.test.x, data.test.x)


@pytest.mark.parametrize("place", ["", "mnist"])
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_places_and_spellings(tmp_path, monkeypatch, place, suffix):
    write_part(tmp_path / "d" / place, "train", suffix=suffix)
    write_part(tmp_path / "d" / place, "t10k", suffix=suffix)
    monkeypatch.setenv("FATHOM_DATA", str(tmp_path / "d"))
    assert len(load("mnist").test) == 20


def test_spelling_with_a_dot(tmp_path):
    write_part(tmp_path, "t10k", suffix="")
    for kind in ("images-idx3", "labels-idx1"):
        old = tmp_path / f"t10k-{kind}-ubyte"
        old.rename(tmp_path / old.name.replace("-idx", ".idx"))
    assert len(mnist(tmp_path)) == 20


def test_cache_is_looked_in(tmp_path):
    write_part(tmp_path / "cache" / "fashion_mnist", "train")
    write_part(tmp_path / "cache" / "fashion_mnist", "t10k")
    data = load("fashion-mnist")
    assert data.classes[9] == "Ankle boot" and data.test is not None


def test_a_complete_cache_goes_before_half_a_folder(tmp_path, monkeypatch):
    write_part(tmp_path / "half", "t10k", 30)
    monkeypatch.setenv("FATHOM_DATA", str(tmp_path / "half"))
    assert len(mnist()) == 30
    write_part(tmp_path / "cache" / "mnist", "train", 50)
    write_part(tmp_path / "cache" / "mnist", "t10k", 30)
    assert len(mnist()) == 50


def test_half_a_cache_is_used_when_there_is_no_network(tmp_path):
    write_part(tmp_path / "cache" / "mnist", "t10k", 30)
    data = mnist()
    assert len(data) == 30 and "split 24 / 6" in data.note


def test_only_the_test_files(shared_mnist, monkeypatch):
    monkeypatch.setenv("FATHOM_DATA", str(shared_mnist.parent))
    data = load("mnist")
    assert len(data) == 10_000 and data.x.shape == (10_000, 784)
    assert data.x.dtype == np.float32 and float(data.x.max()) == 1.0
    assert data.note.startswith(f"only the 10,000 t10k digits were found in {shared_mnist}: ")
    assert "split 8,000 / 2,000" in data.note
    parts = data.split(validation=0.0, test=0.2)
    assert [len(part) for part in parts] == [8000, 0, 2000]
    share = np.bincount(data.y) * 0.2
    assert (np.abs(np.bincount(parts.test.y) - share) < 1).all()
    again = data.split(validation=0.0, test=0.2)
    np.testing.assert_array_equal(parts.test.x, again.test.x)
    with_validation = data.split(test=0.2)
    assert len(with_validation.test) == 2000
    assert len(with_validation.train) + len(with_validation.validation) == 8000


def test_known_hashes_are_those_of_the_files(shared_mnist):
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        digest = hashlib.sha256((shared_mnist / name).read_bytes()).hexdigest()
        assert families.MNIST.hashes[name] == digest


def test_digits_are_not_taken_for_clothing(shared_mnist, monkeypatch):
    monkeypatch.setenv("FATHOM_DATA", str(shared_mnist))
    with pytest.raises(MissingFileError, match="Fashion-MNIST was not found"):
        fashion_mnist()


def test_nothing_found_and_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("FATHOM_DATA", str(tmp_path / "data"))
    with pytest.raises(MissingFileError) as caught:
        load("mnist")
    text = str(caught.value)
    for wanted in (*NAMES, str(tmp_path / "data"), str(tmp_path / "cache" / "mnist")):
        assert wanted in text
    assert "set FATHOM_DATA" in text and "downloading" not in text.split("try:")[0].split(";")[0]


def test_nothing_found_and_no_wish_to_download(tmp_path):
    with pytest.raises(MissingFileError, match="download=False"):
        mnist(download=False)
    with pytest.raises(MissingFileError, match="MNIST was not found"):
        mnist(tmp_path)


def test_half_a_part_is_named(tmp_path):
    write_part(tmp_path, "t10k")
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(MissingFileError, match=r"is there, but t10k-labels-idx1-ubyte\.gz is not"):
        mnist(tmp_path)


def test_swapped_files(tmp_path):
    write_part(tmp_path, "t10k")
    images, labels = (tmp_path / name for name in NAMES[2:])
    with pytest.raises(DataError, match=r"(?s)expected images: .*swapped"):
        read_images(labels, images)
    with pytest.raises(DataError, match="expected labels: bytes with 1 axis"):
        read_images(images, images)


def test_counts_that_differ(tmp_path):
    write_part(tmp_path / "a", "t10k", 20)
    write_part(tmp_path / "b", "t10k", 21)
    with pytest.raises(DataError, match=r"has 20 images, but .* has 21 labels"):
        read_images(tmp_path / "a" / NAMES[2], tmp_path / "b" / NAMES[3])


def test_label_outside_the_classes(tmp_path):
    write_part(tmp_path, "t10k", 20)
    with pytest.raises(DataError, match=r"label 4 is 4; expected 0 \.\.\. 3"):
        read_images(tmp_path / NAMES[2], tmp_path / NAMES[3], classes=4)


def test_images_of_another_size(tmp_path):
    write_part(tmp_path, "t10k", side=8)
    with pytest.raises(DataError, match="images have 784 pixels; these have 64"):
        mnist(tmp_path)


def test_images_of_another_type(tmp_path):
    write_part(tmp_path, "t10k")
    write_idx(tmp_path / NAMES[2], np.zeros((20, 28, 28), np.int16))
    with pytest.raises(DataError, match="it holds int16"):
        mnist(tmp_path)


def test_damaged_file_is_named(tmp_path):
    write_part(tmp_path, "t10k")
    content = (tmp_path / NAMES[2]).read_bytes()
    (tmp_path / NAMES[2]).write_bytes(content[:-20])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz: the gzip data are damaged"):
        mnist(tmp_path)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A web server with four small files, and a family that knows their hashes."""
    folder = tmp_path / "mirror"
    write_part(folder, "train", 40)
    write_part(folder, "t10k", 10)
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in NAMES}
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = f"http://127.0.0.1:{server.server_port}/"
    changed = replace(families.MNIST, hashes=hashes, mirrors=("http://127.0.0.1:9/", url))
    monkeypatch.setattr(families, "MNIST", changed)
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def test_download_to_the_cache(mirror, tmp_path):
    data = mnist()
    assert (len(data), len(data.test)) == (40, 10)
    assert {p.name for p in (tmp_path / "cache" / "mnist").iterdir()} == set(NAMES)
    for file in mirror.iterdir():
        file.unlink()
    assert len(mnist()) == 40


def test_a_broken_off_download_goes_on(mirror, tmp_path):
    cache = tmp_path / "cache" / "mnist"
    cache.mkdir(parents=True)
    (cache / NAMES[0]).write_bytes((mirror / NAMES[0]).read_bytes())
    assert len(mnist().test) == 10


def test_a_download_with_another_hash_is_refused(mirror, tmp_path):
    write_part(mirror, "t10k", 11)
    with pytest.raises(DataError, match=r"t10k-images.* refused, its SHA-256"):
        mnist()
    kept = {p.name for p in (tmp_path / "cache" / "mnist").iterdir()}
    assert kept == set(NAMES[:2])
