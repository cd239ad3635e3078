"""How a dictionary is fitted, as frozen data; runs nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Method = Literal["koine", "sparc"]
Selection = Literal["global", "local"]
Precision = Literal["auto", "fp32", "bf16"]


def _require(holds: bool, name: str, got: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"`{name}` must be {wanted}, got {got}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectorConfig:
    """Selection in a space that the streams share, so that one alone selects what all would.

    scores = sharpness · cos(u, prototype) + pre_code_weight · pre_codes + score_bias, where u is a
    linear map of the stream's principal components into the shared space. Equations in
    `training/selector.py`.
    """

    components: int = 128
    """Principal components of a stream, whitened, that its map sees, at most: with all of them,
    maps fit noise of the training items."""

    width: int = 64
    """Dimensions of the shared space, R."""
    dropout: float = 0.3
    """Share of a stream's components that training hides from its map."""
    lr: float = 2e-3
    """Peak learning rate of maps and prototypes."""
    weight_decay: float = 0.05
    """Decoupled weight decay of the maps."""
    start: float = 0.1
    """Share of the steps after which items become the prototypes, and teaching begins."""
    pre_code_weight: float = 6.0
    """What a pre-code adds to its concept's score: the larger, the better items are
    reconstructed, and the less the streams agree."""
    lone_factor: float = 1.5
    """Times that weight in a stream whose modality no other one has: of what it alone sees,
    nothing else tells."""
    contrast_weight: float = 1.0
    """Weight of the contrastive loss between the streams' maps of one item."""
    contrast_temperature: float = 0.15
    """Its temperature."""
    teach_weight: float = 1.0
    """Weight of teaching each stream the support that an item's streams choose together."""
    code_contrast_weight: float = 0.1
    """Weight of the contrastive loss between the codes of streams that select alone."""
    code_contrast_temperature: float = 0.1
    """Its temperature."""
    code_contrast_items: int = 128
    """Items of a batch that it is taken over, at most."""
    most_rate: float = 0.1
    """Share of the items above which a concept's score is pushed down, for each stream; twice the
    even rate k / num_concepts where that is more."""
    least_rate: float = 0.02
    """Share of the even rate k / num_concepts below which it is pushed up."""
    balance_lr: float = 0.04
    """Step of that push per unit of log rate."""
    softness: float = 0.1
    """Codes are softness · softplus(x / softness): positive wherever a concept is selected."""
    refinements: int = 2
    """Times that a code is corrected by its dictionary row's share of the residual."""
    refine_rate: float = 0.3
    """Step of that correction."""

    def __post_init__(self) -> None:
        for name in ("width", "components", "code_contrast_items"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("dropout", "start"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        for name in ("lr", "softness", "contrast_temperature", "code_contrast_temperature"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "positive")
        weighs = 0 <= self.pre_code_weight < math.inf
        _require(weighs, "pre_code_weight", self.pre_code_weight, "finite, at least 0")
        _require(self.refinements >= 0, "refinements", self.refinements, "at least 0")
        _require(0 < self.most_rate <= 1, "most_rate", self.most_rate, "in (0, 1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class FitConfig:
    """A complete training configuration; `aligned` gives the best one known."""

    method: Method = "koine"
    """`sparc` trains as published (arXiv 2507.06265 and its code); `koine` corrects its faults."""
    num_concepts: int = 8192
    """Dictionary size C."""
    k: int = 64
    """Concepts that an item activates, K."""
    selection: Selection = "global"
    """`global`: the streams of an item select one shared support; `local`: each selects alone."""
    selector: SelectorConfig | None = None
    """How streams select in a shared space; None: by their pre-codes, as SPARC does."""
    cross_weight: float = 1.0
    """Weight of reconstructing each stream from every other stream's codes."""
    stream_dropout: float = 0.5
    """Share of training items that are selected for as in serving: by one random stream, or, with
    a `selector`, by each stream for itself."""
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
        chosen = self.selector is None or self.selection == "global"
        _require(chosen, "selection", self.selection, "global with a `selector`")
        _require(self.cross_weight >= 0, "cross_weight", self.cross_weight, "at least 0")
        _require(self.steps is None or self.steps >= 1, "steps", self.steps, "at least 1")
        given = self.steps is not None or (self.epochs is not None and self.epochs > 0)
        _require(given, "epochs", self.epochs, "positive where `steps` is not given")

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> FitConfig:
        """What `dataclasses.asdict` made of one."""
        given = dict(fields)
        if given["selector"] is not None:
            given["selector"] = SelectorConfig(**given["selector"])
        return cls(**given)

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


ALIGNED: dict[str, Any] = {
    "selector": SelectorConfig(),
    "lr": 2e-3,
    "stream_dropout": 0.8,
    "decay": 0.3,
    "auxk_weight": 0.0,
    "resample_every": None,
    "keep": "last",
}
"""What makes streams select alike when alone. The balance of scores keeps concepts alive, so that
nothing is resampled and AuxK is left out."""


def aligned(**fields: Any) -> FitConfig:
    """The recipes' method, with `fields` laid over it."""
    return FitConfig(**ALIGNED | fields)


SPARC_AS_PUBLISHED = {
    "method": "sparc",
    "selector": None,
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
    "auxk_weight": 1 / 32,
    "dead_after": 1000,
    "resample_every": None,
    "reinit_every": 100,
    "keep": "last",
}
"""What `--method sparc` changes: research code of arXiv 2507.06265, its optimiser and faults."""
