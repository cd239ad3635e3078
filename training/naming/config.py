"""How concepts are named, as data; reads no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Routes = Literal["both", "firing", "direction"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NamingConfig:
    """Everything that decides names beside the weights, the store and the vocabulary."""

    routes: Routes = "both"
    """`both`: firing chooses, direction confirms; or one of them alone."""
    labels: bool = True
    """Whether the store's labels are terms, and an item's labels count as what it shows."""
    min_score: float = 0.7
    """Names below it are left out: the concept stays unnamed."""
    max_chance: float = 0.01
    """How likely a fit as good as the label's may be by chance, over all terms and streams."""
    min_fires: int = 10
    """Training items on which a stream must fire for its firings to count."""
    min_items: int = 10
    """Training items that a word of the captions must have to be a term."""
    max_terms: int = 5000
    """Words and pairs that captions give at most; the most frequent."""
    max_rows: int = 100_000
    """Training items that are read at most; evenly spread where there are more."""
    exemplars: int = 6
    """Exemplars of a concept at most."""
    nearest: int = 5
    """Nearest concepts that are listed."""
    thumbnails: bool = True
    """Whether exemplars get a thumbnail, where their images are at hand."""

    def __post_init__(self) -> None:
        for name in ("min_score", "max_chance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie in 0 to 1, got {getattr(self, name)}")
        for name in ("min_fires", "min_items", "max_terms", "max_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be 1 or more, got {getattr(self, name)}")
        for name in ("exemplars", "nearest"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be 0 or more, got {getattr(self, name)}")
