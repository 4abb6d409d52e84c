"""MNIST and Fashion-MNIST from IDX files: found in a folder, or downloaded once and checked."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.data._checks import FilePath, counted, listing
from fathom.data.dataset import Dataset
from fathom.data.idx import read_idx
from fathom.engine.errors import DataError, MissingFileError

PARTS = ("train", "t10k")
SIDE = 28


@dataclass(frozen=True)
class Family:
    """Four IDX files with the same names in every family, so told apart by their hashes."""

    name: str
    title: str
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    hashes: dict[str, str]  # file name: SHA-256
    target_name: str
    description: str
    licence: str


MNIST = Family(
    "mnist",
    "MNIST",
    tuple("0123456789"),
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea37026"
        "5605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cc"
        "a23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e3"
        "3eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd"
        "2371eca3ffa0defaefb259924204aec6",
    },
    "digit",
    "Handwritten digits, 28 x 28 pixels from 0 to 1; 60,000 to train and 10,000 to test.",
    "CC BY-SA 3.0; Y. LeCun, C. Cortes and C. J. C. Burges (1998)",
)

FASHION_MNIST = Family(
    "fashion_mnist",
    "Fashion-MNIST",
    (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed27"
        "1626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc"
        "97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a4"
        "84bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3c"
        "d6d1c2608764d35dfb1850b086bf8dd5",
    },
    "garment",
    "Grey photographs of clothing, 28 x 28 pixels from 0 to 1; 60,000 to train, 10,000 to test.",
    "MIT; H. Xiao, K. Rasul and R. Vollgraf (2017)",
)

FAMILIES = (MNIST, FASHION_MNIST)


def mnist(folder: FilePath | None = None, download: bool = True) -> Dataset:
    """Handwritten digits: `x` (n, 784) pixels from 0 to 1, `y` the digit, `test` the test rows.

    The four IDX files are looked for in `folder`, or without it in $FATHOM_DATA,
    $FATHOM_DATA/mnist and the cache ($FATHOM_CACHE, or the cache folder of the user), plain or
    gzipped; then downloaded to the cache and refused if their SHA-256 is wrong. Where only the
    training or only the test files (t10k) are found, those rows are the data set and `split`
    divides them; `note` says so.

    Raises `MissingFileError` when nothing is found and there is no way to download, `DataError`
    for damaged files.
    """
    return _load(MNIST, folder, download)


def fashion_mnist(folder: FilePath | None = None, download: bool = True) -> Dataset:
    """Photographs of clothing in ten classes, in the format and places of `mnist`.

    The subfolder of $FATHOM_DATA is fashion_mnist. The file names are those of MNIST; files known
    to be MNIST's by their hash are passed over.
    """
    return _load(FASHION_MNIST, folder, download)


def read_images(
    images: FilePath, labels: FilePath, classes: int = 10
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pixels / 255 as float32 (n, height * width) and labels (n,) from a pair of IDX files.

    Raises `DataError` for swapped or wrong files, different counts, labels outside the classes.
    """
    pixels, numbers = read_idx(images), read_idx(labels)
    _expect(images, pixels, 3, "images: bytes with 3 axes (n, height, width)")
    _expect(labels, numbers, 1, "labels: bytes with 1 axis (n)")
    if len(pixels) != len(numbers):
        raise DataError(
            f"{images} has {counted(len(pixels), 'image')}, but {labels} has "
            f"{counted(len(numbers), 'label')}",
            fix="do the two files belong together?",
        )
    outside = np.flatnonzero(numbers >= classes)
    if len(outside):
        raise DataError(
            f"{labels}: label {outside[0]} is {numbers[outside[0]]}; expected 0 ... {classes - 1}"
        )
    x = pixels.reshape(len(pixels), -1).astype(np.float32)
    x /= 255
    return x, numbers.astype(np.int64)


def _expect(path: FilePath, array: NDArray[Any], axes: int, what: str) -> None:
    if array.ndim != axes or array.dtype != np.uint8:
        raise DataError(
            f"{path}: expected {what}; it holds {array.dtype} of shape {array.shape}",
            fix="are the image and the label file swapped?",
        )


def _load(family: Family, folder: FilePath | None, download: bool) -> Dataset:
    if folder is not None:
        parts = _parts(family, Path(folder))
        if not parts:
            raise _missing(family, [Path(folder)], "")
        return _dataset(family, Path(folder), parts)
    cache = _cache() / family.name
    own = [(place, _parts(family, place)) for place in _own_folders(family)]
    found = [*own, (cache, _parts(family, cache, sure=False))]
    found.sort(key=lambda pair: -len(pair[1]))  # stable: the first of the complete ones
    if len(found[0][1]) == len(PARTS) or any(parts for _, parts in own):
        return _dataset(family, *found[0])
    failure = _download(family, cache) if download else None
    parts = _parts(family, cache, sure=False)
    if not parts:
        reason = str(failure) if download else "download=False"
        raise _missing(family, [*_own_folders(family), cache], reason) from failure
    return _dataset(family, cache, parts)


def _cache() -> Path:
    given = os.environ.get("FATHOM_CACHE")
    if given:
        return Path(given)
    import pooch

    return Path(pooch.os_cache("fathom"))


def _own_folders(family: Family) -> list[Path]:
    given = os.environ.get("FATHOM_DATA")
    return [Path(given), Path(given) / family.name] if given else []


def _file(folder: Path, name: str) -> Path | None:
    """The file by its usual name, unpacked, or with the dot some archives have."""
    plain = name.removesuffix(".gz")
    for spelling in (name, plain, plain.replace("-idx", ".idx")):
        if (folder / spelling).is_file():
            return folder / spelling
    return None


def _parts(family: Family, folder: Path, sure: bool = True) -> dict[str, tuple[Path, Path]]:
    """The image and label file of each part in the folder; half a part is an error if `sure`."""
    parts: dict[str, tuple[Path, Path]] = {}
    for part in PARTS:
        names = (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz")
        images, labels = (_file(folder, name) for name in names)
        if (images is None and labels is None) or not (sure or (images and labels)):
            continue
        if images is None or labels is None:
            there, gone = (images, names[1]) if images else (labels, names[0])
            raise MissingFileError(
                f"{there} is there, but {gone} is not", fix=f"put it in {folder}"
            )
        if not _of_another(family, images, names[0]):
            parts[part] = (images, labels)
    return parts


def _of_another(family: Family, file: Path, name: str) -> bool:
    others = [other.hashes[name] for other in FAMILIES if other.name != family.name]
    return hashlib.sha256(file.read_bytes()).hexdigest() in others


def _dataset(family: Family, folder: Path, parts: dict[str, tuple[Path, Path]]) -> Dataset:
    made = {part: _part(family, *files) for part, files in parts.items()}
    note = f"read from {folder}"
    if len(made) == len(PARTS):
        return replace(made["train"], note=note, test=replace(made["t10k"], note=note))
    (part, data), *_ = made.items()
    held = round(len(data) * 0.2)
    return replace(
        data,
        note=f"only the {len(data):,} {part} {family.target_name}s were found in {folder}: split "
        f"{len(data) - held:,} / {held:,} (seeded, stratified, test=0.2; validation rows come out "
        "of the first)",
    )


def _part(family: Family, images: Path, labels: Path) -> Dataset:
    x, y = read_images(images, labels, len(family.classes))
    if x.shape[1] != SIDE * SIDE:
        raise DataError(
            f"{images}: {family.title} images have {SIDE * SIDE} pixels; these have {x.shape[1]}"
        )
    return Dataset(
        family.name,
        x,
        y,
        "classification",
        tuple(f"pixel {row},{column}" for row in range(SIDE) for column in range(SIDE)),
        family.classes,
        family.target_name,
        (SIDE, SIDE),
        family.description,
        family.licence,
    )


def _download(family: Family, folder: Path) -> OSError | None:
    """Put the four files into the folder; the failure if no mirror could be reached.

    Raises `DataError` if what the mirrors gave has another hash than it must have.
    """
    for name, digest in family.hashes.items():
        failure: OSError | DataError | None = None
        for mirror in family.mirrors:
            failure = _fetch(mirror + name, digest, folder, name)
            if failure is None:
                break
        if isinstance(failure, DataError):
            raise failure
        if failure is not None:
            return failure
    return None


def _fetch(url: str, digest: str, folder: Path, name: str) -> OSError | DataError | None:
    """Download one file unless it is there; what went wrong, if anything did."""
    import pooch

    try:
        pooch.retrieve(url, known_hash=f"sha256:{digest}", fname=name, path=folder)
    except ValueError as error:  # of another content
        return DataError(
            f"{url}: the downloaded file was refused, its SHA-256 is not the known one ({error})",
            fix="try again later, or put a good copy into the folder named by FATHOM_DATA",
        )
    except OSError as error:  # no connection, no such page, no place to write
        return error
    return None


def _missing(family: Family, folders: list[Path], reason: str) -> MissingFileError:
    tail = f"; {reason}" if reason else ""
    return MissingFileError(
        f"{family.title} was not found: looked in {listing(folders)} for "
        f"{listing(family.hashes)}{tail}",
        fix="set FATHOM_DATA to the folder that holds these files (the two t10k files alone will "
        "do), or connect to the network",
    )
