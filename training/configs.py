"""How a dictionary is fitted, as frozen data; runs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Method = Literal["koine", "sparc"]
Selection = Literal["global", "local"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FitConfig:
    """A complete training configuration. The defaults are the `koine` method's."""

    method: Method = "koine"
    """`sparc` trains as published (arXiv 2507.06265 and its code); `koine` corrects its faults."""
    num_concepts: int = 8192
    """Dictionary size C."""
    k: int = 64
    """Concepts that an item activates, K."""
    selection: Selection = "global"
    """`global`: the streams of an item select one shared support; `local`: each selects alone."""
    cross_weight: float = 1.0
    """Weight of reconstructing each stream from every other stream's codes."""
    stream_dropout: float = 0.5
    """Share of training items whose support one random stream selects alone, as in serving."""
    standardise: bool = True
    """Centre each stream and scale it to unit mean square, so that none dominates the sum."""

    batch_size: int = 256
    """Items per step."""
    steps: int | None = None
    """Optimizer steps; None derives them from `epochs`."""
    epochs: float | None = 50.0
    """Passes over the training rows; used when `steps` is None."""
    shuffle: Literal["rows", "blocks"] = "rows"
    """`rows`: a true shuffle each epoch; `blocks`: fixed contiguous batches in random order."""
    lr: float = 1e-3
    """Adam's peak learning rate."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises linearly from 0."""
    decay: float = 0.2
    """Share of the steps, at the end, over which the learning rate falls linearly to 0."""
    grad_clip: float | None = 1.0
    """Largest gradient norm over all parameters; None does not clip."""
    precision: Precision = "auto"
    """`bf16` autocasts the matrix products; `auto` does so on CUDA only (on CPU it is slower)."""
    renormalise: Literal["after_step", "before_step"] = "after_step"
    """When decoder rows are brought back to unit norm."""

    auxk: int | None = None
    """Dead latents that reconstruct the residual per item; None takes 4 k."""
    auxk_weight: float = 1 / 32
    """Weight of that reconstruction's loss."""
    dead_after: int = 50
    """Steps without firing after which a latent of a stream counts as dead."""
    resample_every: int | None = 50
    """Steps between resamplings of latents dead in all streams; None never."""
    resample_until: float = 0.95
    """Share of the steps after which none is resampled, so that the last ones settle."""
    reinit_every: int | None = None
    """Steps between re-initialisations of dead encoder rows (as SPARC does); None never."""

    seed: int = 42
    """Seed of the weights, the shuffle, the caption draws and the stream dropout."""
    validate_every: int = 100
    """Steps between validations; the weights best on validation are kept."""
    keep: Literal["best", "last"] = "best"
    """Which weights the run delivers: best on validation, or the last step's."""
    checkpoint_every: int = 200
    """Steps between resume states."""
    log_every: int = 10
    """Steps between log entries and checks for non-finite losses."""

    def __post_init__(self) -> None:
        for name in ("num_concepts", "k", "batch_size", "dead_after", "log_every"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("validate_every", "checkpoint_every"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.k <= self.num_concepts, "k", self.k, f"at most {self.num_concepts}")
        _require(0 <= self.stream_dropout <= 1, "stream_dropout", self.stream_dropout, "in [0, 1]")
        _require(self.warmup + self.decay <= 1, "warmup + decay", self.warmup + self.decay, "≤ 1")
        _require(self.lr > 0, "lr", self.lr, "positive")
        _require(self.cross_weight >= 0, "cross_weight", self.cross_weight, "at least 0")
        _require(self.steps is None or self.steps >= 1, "steps", self.steps, "at least 1")
        given = self.steps is not None or (self.epochs is not None and self.epochs > 0)
        _require(given, "epochs", self.epochs, "positive where `steps` is not given")

    @property
    def num_auxk(self) -> int:
        """Latents that AuxK may use per item."""
        return min(self.num_concepts, self.auxk if self.auxk is not None else 4 * self.k)

    def total_steps(self, num_rows: int) -> int:
        """Optimizer steps over `num_rows` training rows."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * max(1, num_rows // self.batch_size)))


SPARC_AS_PUBLISHED = {
    "method": "sparc",
    "stream_dropout": 0.0,
    "standardise": False,
    "shuffle": "blocks",
    "lr": 1e-4,
    "warmup": 0.0,
    "decay": 0.0,
    "grad_clip": None,
    "precision": "fp32",
    "renormalise": "before_step",
    "auxk": 64,
    "dead_after": 1000,
    "resample_every": None,
    "reinit_every": 100,
    "keep": "last",
}
"""What `--method sparc` changes: research code of arXiv 2507.06265, its optimiser and faults."""


def _require(holds: bool, name: str, got: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"`{name}` must be {wanted}, got {got}")
