"""How a stream is fitted onto a frozen dictionary, as frozen data; runs nothing."""

from __future__ import annotations

from dataclasses import dataclass

MIN_PAIRS = 32
"""Fewer say nothing of an encoder: closed forms and the choice among them are then noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtendConfig:
    """A complete configuration of one extension."""

    stream: str
    """The new stream's name, as in the store."""
    pairs: int | None = None
    """Items that have the new stream and an existing one, in all; None takes all."""
    choose: float = 0.15
    """Share of the pairs that penalties and the step are chosen on, never fitted on."""
    penalties: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    """Ridge penalties tried, as multiples of the inputs' mean variance."""
    steps: int = 100
    """Steps of distillation after the closed forms; the best on the pairs kept out are kept."""
    batch_size: int = 256
    """Pairs a step."""
    lr: float = 1e-3
    """Adam's peak learning rate of encoder and decoder."""
    selector_lr: float = 1e-3
    """AdamW's peak learning rate of the map into the shared space."""
    weight_decay: float = 0.05
    """Decoupled weight decay of that map."""
    teach_weight: float = 1.0
    """Weight of teaching the new stream what the existing ones choose together."""
    contrast_weight: float = 1.0
    """Weight of the contrastive loss between the new stream's place of an item and the others'."""
    validate_every: int = 25
    """Steps between looks at the pairs kept out, each one a resume state."""
    seed: int = 42
    """Of the pairs drawn, their order and their captions."""

    def __post_init__(self) -> None:
        if self.pairs is not None and self.pairs < MIN_PAIRS:
            raise ValueError(f"`pairs` must be at least {MIN_PAIRS}, got {self.pairs}")
        if not 0 < self.choose < 1:
            raise ValueError(f"`choose` must be between 0 and 1, got {self.choose}")
        if self.steps < 0:
            raise ValueError(f"`steps` must be at least 0, got {self.steps}")
        if not self.penalties or min(self.penalties) <= 0:
            raise ValueError(f"`penalties` must be positive, got {self.penalties}")
