"""A finished run's concepts get names, exemplars and neighbours; prints nothing but progress."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64

from koine.concepts import Concept, Exemplar
from koine.errors import DataError, RequestError
from koine.manifest import EXEMPLARS
from training.activations import ActivationStore
from training.checkpoint import load_model
from training.evaluation.evaluate import open_store, read_run
from training.evaluation.labels import MIN_FIRES
from training.export.build import load_encoders
from training.model import AlignedDictionary
from training.naming.choose import Directions, Proposal, propose
from training.naming.config import NamingConfig, Routes
from training.naming.direction import directions, embedded
from training.naming.exemplars import exemplars, with_thumbnails
from training.naming.firing import shared
from training.naming.names import NamesRecord, begin, fingerprint, finish, finished
from training.naming.nearest import nearest_concepts
from training.naming.seen import Seen, see, spread
from training.naming.vocabulary import Term, collect, vocabulary_hash
from training.progress import progress
from training.recipes import RECIPES
from training.sources import Source, open_source

log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A finished run, ready to be named."""

    run: Path
    recipe: str | None
    model: AlignedDictionary
    store: ActivationStore
    own: Sequence[str]
    """The user's terms."""
    encoders: Path | None


def open_named(
    run: Path,
    *,
    own: Sequence[str] = (),
    store: Path | None = None,
    encoders: Path | None = None,
    device: str | None = None,
) -> Opened:
    """Raises RequestError for an unfinished run, DataError where its store is gone or another."""
    record, _ = read_run(run)
    acts = open_store(store or Path(record["store"]), record, verify=False)
    model = load_model(run).to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    recipe = record["recipe"] or acts.manifest.plan.recipe
    return Opened(run, recipe, model, acts, own, encoders)


def name(opened: Opened, config: NamingConfig, folder: Path, *, data: Path | None = None) -> bool:
    """Writes names to `folder`; False where the same names lie there already.

    `data`: the folder that the store was extracted from, for thumbnails.
    """
    source = _images(opened, config, data)
    record = NamesRecord(
        weights=fingerprint(opened.run),
        store=f"sha256:{opened.store.fingerprint}",
        vocabulary=vocabulary_hash(opened.own),
        settings=dataclasses.asdict(config) | {"with_images": source is not None},
    )
    if finished(folder, record):
        return False
    train = train_items(opened, config)
    terms, proposals = proposals_of(opened, train, config)
    chosen = exemplars(train, config.exemplars)
    begin(folder)
    if source is not None:
        wanted = len({one.item for each in chosen for one in each})
        with progress(wanted, "thumbnails") as bar:
            chosen = with_thumbnails(chosen, source, folder / EXEMPLARS, bar)
    purity = purities(held_out(opened, config), terms, proposals, config)
    nearest = nearest_concepts(opened.model, config.nearest)
    finish(folder, _concepts(terms, proposals, purity, nearest, chosen), record)
    return True


def train_items(opened: Opened, config: NamingConfig) -> Seen:
    """The training items that names are made from."""
    return see_rows(opened, spread(opened.store.split("train"), config.max_rows), "training items")


def held_out(opened: Opened, config: NamingConfig) -> Seen:
    """Items that no name is made from: those of `val`."""
    return see_rows(opened, spread(opened.store.split("val"), config.max_rows), "held-out items")


def proposals_of(
    opened: Opened, train: Seen, config: NamingConfig
) -> tuple[list[Term], list[Proposal]]:
    """The terms that were tried and what they make of each concept.

    Raises DataError where neither captions, labels nor a text encoder say anything.
    """
    terms = collect(
        train.rows,
        opened.own,
        labels=config.labels,
        min_items=config.min_items,
        max_terms=config.max_terms,
    )
    config = _possible(opened, train, config)
    pointed = {} if config.routes == "firing" else _directions(opened, terms)
    where = train.where(terms, labels=config.labels)
    return terms, propose(train.codes, where, terms, pointed, config)


def purities(
    items: Seen, terms: Sequence[Term], proposals: Sequence[Proposal], config: NamingConfig
) -> list[dict[str, float]]:
    """Share of the items on which a concept fires that have its label, by stream.

    Left out where a stream fires on fewer than MIN_FIRES items: of one item it is 0 or 1.
    """
    term_C = np.array([p.term or 0 for p in proposals], np.int64)
    where = items.where(terms, labels=config.labels)
    found: list[dict[str, float]] = [{} for _ in proposals]
    for stream, codes in items.codes.items():
        fires_C = np.diff(codes.tocsc().indptr)
        shared_C = shared(codes, where[stream], term_C)
        for concept, proposal in enumerate(proposals):
            if proposal.term is not None and fires_C[concept] >= MIN_FIRES:
                found[concept][stream] = round(float(shared_C[concept] / fires_C[concept]), 4)
    return found


def see_rows(opened: Opened, rows_N: Int64[np.ndarray, "N"], what: str) -> Seen:
    """Encode rows of the run's store under a progress bar."""
    with progress(len(rows_N), what) as bar:
        return see(opened.model, opened.store, rows_N, bar)


def _possible(opened: Opened, train: Seen, config: NamingConfig) -> NamingConfig:
    """The routes that this store and its encoders allow; says which is left out."""
    told = any(row.captions or (config.labels and row.labels) for row in train.rows)
    reads = bool(text_streams(opened))
    wants_firing = config.routes != "direction"
    if not told and not reads:
        raise DataError(
            f"nothing can name these concepts: {opened.store.path} has neither captions nor "
            "labels, and no stream has a text encoder; import it with --labels"
        )
    if config.routes == "both" and not (told and reads):
        only: Routes = "firing" if told else "direction"
        lacks = "no stream has a text encoder" if told else "the store has no captions or labels"
        log.info("names come by %s alone: %s", only, lacks)
        return dataclasses.replace(config, routes=only)
    if not (told if wants_firing else reads):
        raise RequestError(f"--routes {config.routes} cannot be had: try the other one, or `both`")
    return config


def text_streams(opened: Opened) -> dict[str, Any]:
    return {
        spec.name: spec
        for spec in opened.store.streams
        if spec.modality == "text" and spec.encoder is not None
    }


def _directions(opened: Opened, terms: Sequence[Term]) -> Directions:
    texts = [term.text for term in terms]
    log.info("embed %d terms", len(texts))
    encoders = load_encoders(text_streams(opened), opened.recipe, opened.encoders)
    return {
        stream: directions(opened.model, stream, embedded(encoder, texts))
        for stream, encoder in encoders.items()
    }


def _images(opened: Opened, config: NamingConfig, data: Path | None) -> Source | None:
    """The source of the store's images; None, with a line that says so, where they are not asked
    for or not known. Raises DataError for a folder that the store does not come from."""
    if not config.thumbnails or config.exemplars == 0:
        return None
    if data is None:
        log.info("exemplars get no thumbnails: say by --data where the store's images lie")
        return None
    plan = opened.store.manifest.plan
    recipe = RECIPES.get(opened.recipe or "")
    if recipe is None or plan.recipe is None:
        raise DataError(f"{opened.store.path} was imported: it has no images; leave --data out")
    source = open_source(plan.source.kind, data)
    if (found := source.scan().fingerprint) != plan.source.fingerprint:
        raise DataError(
            f"{data} is not what {opened.store.path} was extracted from: its listing has "
            f"{found[:19]}, the store's had {plan.source.fingerprint[:19]}; give that folder"
        )
    return source


def _concepts(
    terms: Sequence[Term],
    proposals: Sequence[Proposal],
    purity: Sequence[Mapping[str, float]],
    nearest: Sequence[tuple[int, ...]],
    chosen: Sequence[Sequence[Exemplar]],
) -> list[Concept]:
    concepts: list[Concept] = []
    for number, proposal in enumerate(proposals):
        named = proposal.term is not None
        concepts.append(
            Concept(
                id=number,
                label=terms[proposal.term].text if proposal.term is not None else None,
                status="proposed" if named else "unnamed",
                source=proposal.source if named else None,
                score=round(proposal.score, 4) if named else None,
                purity=dict(purity[number]),
                nearest=nearest[number],
                evidence=proposal.evidence,
                exemplars=tuple(chosen[number]),
            )
        )
    return concepts
