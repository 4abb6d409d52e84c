"""Losses by family; cross-entropy, the most used of them, stands in `fathom.ops.loss`."""
