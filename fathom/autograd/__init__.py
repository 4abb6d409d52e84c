"""Gradients: asking for them, checking them, writing them, and looking at the graph behind them."""

from fathom.autograd.anomaly import Anomaly, AnomalyError, detect_anomaly
from fathom.autograd.checkpoint import checkpoint
from fathom.autograd.function import Function
from fathom.autograd.gradcheck import (
    GradientMismatchError,
    gradcheck,
    gradgradcheck,
    numerical_grad,
)
from fathom.autograd.graph import graph_svg, graph_text
from fathom.autograd.memory import MemoryReport, memory_report
from fathom.autograd.steps import BackwardStep, backward_steps
from fathom.engine.backward import backward, grad

__all__ = [
    "Anomaly",
    "AnomalyError",
    "BackwardStep",
    "Function",
    "GradientMismatchError",
    "MemoryReport",
    "backward",
    "backward_steps",
    "checkpoint",
    "detect_anomaly",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "graph_svg",
    "graph_text",
    "memory_report",
    "numerical_grad",
]
