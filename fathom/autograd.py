"""Gradients as functions: `grad`, and the check of gradients against finite differences."""

from fathom.engine.gradcheck import gradcheck, gradgradcheck, numerical_grad
from fathom.engine.tape import backward, grad

__all__ = ["backward", "grad", "gradcheck", "gradgradcheck", "numerical_grad"]
