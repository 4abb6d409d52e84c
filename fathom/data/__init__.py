"""Data: sets by name, tables from CSV files, and loaders that cut them into batches.

>>> from fathom.data import DataLoader, Preprocessor, load
>>> train, validation, test = load("digits").split(validation=0.1, test=0.2, seed=0)
>>> prepare = Preprocessor.for_dataset(train)
>>> batches = DataLoader(prepare.transform_array(train.x), train.y, batch_size=64)
>>> len(train), len(validation), len(test), len(batches)
(1258, 180, 359, 20)
"""

from fathom.data.builtin import diabetes, digits, iris
from fathom.data.dataset import Dataset
from fathom.data.families import fashion_mnist, mnist, read_images
from fathom.data.generators import (
    blobs,
    checkerboard,
    circles,
    curve,
    gates,
    moons,
    spirals,
    xor_cloud,
)
from fathom.data.grammar import Corpus, grammar
from fathom.data.idx import read_idx, write_idx
from fathom.data.loader import DataLoader
from fathom.data.preprocess import Preprocessor
from fathom.data.registry import Info, catalogue, load, names
from fathom.data.splitting import Splits
from fathom.data.table import Column, Table, read_csv

__all__ = [
    "Column",
    "Corpus",
    "DataLoader",
    "Dataset",
    "Info",
    "Preprocessor",
    "Splits",
    "Table",
    "blobs",
    "catalogue",
    "checkerboard",
    "circles",
    "curve",
    "diabetes",
    "digits",
    "fashion_mnist",
    "gates",
    "grammar",
    "iris",
    "load",
    "mnist",
    "moons",
    "names",
    "read_csv",
    "read_idx",
    "read_images",
    "spirals",
    "write_idx",
    "xor_cloud",
]
