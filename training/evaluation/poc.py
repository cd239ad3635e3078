"""The report's parts that a decision needs: intervals, names, disagreement, cost, checklist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from koine.artifact import Artifact
from koine.concepts import Concept
from training.activations import ActivationStore
from training.evaluation import cost as costs
from training.evaluation import names as naming
from training.evaluation.checklist import checklist, override
from training.evaluation.disagreement import disagreement
from training.evaluation.figures import MAX_CANDIDATES, Rows
from training.evaluation.items import held_out_items, intervals
from training.evaluation.speed import BATCH
from training.model import AlignedDictionary, ModelConfig
from training.recipes import RECIPES, Thresholds


@dataclass(frozen=True, kw_only=True, slots=True)
class PocConfig:
    """What a decision rests on besides the run."""

    thresholds: Mapping[str, str] = field(default_factory=dict)
    """Laid over the recipe's, by name, as on the command line."""
    names: Path | None = None
    """Folder that `name` wrote; None: `RUN/names`, where it is there."""
    artifact: Path | None = None
    """Artifact to time; None: `RUN/artifact`, where it is there."""
    price_per_core_hour: float | None = None
    """In whatever currency; None: no price is stated."""


class Prepared(NamedTuple):
    """What was given, read and found to fit the run."""

    thresholds: Thresholds
    concepts: list[Concept] | None
    artifact: Artifact | None
    price_per_core_hour: float | None


def prepared(
    run: Path, recipe: str | None, model: ModelConfig, store: ActivationStore, config: PocConfig
) -> Prepared:
    """Look at everything that was given, before the work.

    Raises RequestError for an unknown threshold or a price that is none, DataError where names or
    artifact are not there or another run's, ArtifactError where they are damaged.
    """
    costs.check_price(config.price_per_core_hour)
    known = RECIPES[recipe]().thresholds if recipe in RECIPES else Thresholds()
    folder, place = config.names or run / naming.FOLDER, config.artifact or run / costs.FOLDER
    return Prepared(
        override(known, config.thresholds),
        naming.read_names(folder, model.num_concepts, needed=config.names is not None),
        costs.known_artifact(place, store, model, needed=config.artifact is not None),
        config.price_per_core_hour,
    )


def add_poc(
    report: dict[str, Any],
    record: dict[str, Any],
    model: AlignedDictionary,
    store: ActivationStore,
    rows: Rows,
    given: Prepared,
) -> None:
    """Add `intervals`, `names`, `disagreement`, `cost` and `checklist` to a measured report."""
    sample_N = rows.held_out[:MAX_CANDIDATES]
    items = held_out_items(model, store, sample_N)
    captions = [store.row(int(row)).captions[:1] for row in sample_N[:BATCH]]
    report["intervals"] = intervals(items)
    report["names"] = given.concepts and naming.names_record(given.concepts)
    report["disagreement"] = disagreement(
        items, store, lambda concept: naming.label_of(given.concepts, concept)
    )
    report["cost"] = costs.cost(
        record,
        store,
        model.config,
        given.artifact,
        [caption for few in captions for caption in few],
        given.price_per_core_hour,
    )
    report["checklist"] = checklist(report, given.thresholds)
