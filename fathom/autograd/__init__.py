"""Gradients as functions: `grad`, and the check of gradients against finite differences."""

from fathom.autograd.gradcheck import gradcheck, gradgradcheck, numerical_grad
from fathom.engine.backward import backward, grad

__all__ = ["backward", "grad", "gradcheck", "gradgradcheck", "numerical_grad"]
