"""Own method and baselines over seeds, at their own learning rates, measured alike."""

from __future__ import annotations
