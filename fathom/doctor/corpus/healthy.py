"""Healthy runs that look odd: all of them train well as they are, and nothing is to be said.

| file | what is odd |
|---|---|
| `odd/layers.py` | networks: zero-initialized branches, LoRA, mixtures, tied weights, gates, ... |
| `odd/losses.py` | losses and targets: sums, soft labels, imbalance, counts, weak signal, ... |
| `odd/training.py` | loops: warm-up, accumulation, fine-tuning, averages, long and short, ... |
"""

from fathom.doctor.corpus.odd import layers, losses, training
from fathom.doctor.corpus.recipe import HEALTHY

__all__ = ["HEALTHY", "layers", "losses", "training"]
