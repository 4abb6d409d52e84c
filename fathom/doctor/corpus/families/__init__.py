"""All families of programs, a file for each kind of data."""

from fathom.doctor.corpus.families import (
    autoencoders,
    contrastive,
    digits,
    gans,
    images,
    policies,
    sequences,
    tables,
    text,
)

__all__ = [
    "autoencoders", "contrastive", "digits", "gans", "images", "policies", "sequences", "tables",
    "text",
]  # fmt: skip
