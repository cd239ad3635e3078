"""Where items come from: images with captions, labels and splits, streamed in a fixed order."""

from __future__ import annotations

from training.sources.item import Item, Scan, Source
from training.sources.registry import SOURCES, open_source

__all__ = ["SOURCES", "Item", "Scan", "Source", "open_source"]
