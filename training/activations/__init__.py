"""The activation store: what encoders made of every row, on disk, read by memory map."""

from __future__ import annotations

from training.activations.rows import Row, Split
from training.activations.store import ActivationStore, Batch

__all__ = ["ActivationStore", "Batch", "Row", "Split"]
