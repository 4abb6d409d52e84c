"""Whole architectures, ready to train."""

from fathom.models.mlp import mlp

__all__ = ["mlp"]
