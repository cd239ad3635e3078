"""The artifact's README: what it is, what it was made from, how to use it; computes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from koine.concepts import Concept
from koine.manifest import ArtifactStream, Manifest
from koine.profile import StreamProfile

_CARD = """\
# {title}

A dictionary of {num_concepts:,} concepts over {num_streams} stream(s); an item activates at most
{k} of them per stream. Made by Koine, method `{method}`. Data only: no code, no pickle.

## Streams

| stream | reads | width | encoder | revision | normalisation |
|---|---|---|---|---|---|
{streams}

Selection, independent: `{independent}`; joint: `{joint}`. A single stream's codes are always the
independent ones. Joint codes share one support per item by construction: never read their overlap
as agreement between streams.

## Names

{names}

## Reference statistics

Training items, encoded independently.

| stream | items | concepts that fire | active per item | mean fvu |
|---|---|---|---|---|
{profile}

## Figures

{metrics}

## Where it comes from

{provenance}

## Use

```
python -m koine inspect DIR        what this is
python -m koine verify DIR         that every byte is as exported
KOINE_ARTIFACT=DIR bentoml serve service.app:ConceptService
```
"""


def model_card(
    manifest: Manifest, profile: Mapping[str, StreamProfile], concepts: Sequence[Concept]
) -> str:
    """The Markdown text of the card. It names no date, so that equal runs give equal cards."""
    return _CARD.format(
        title=manifest.title,
        num_concepts=manifest.num_concepts,
        num_streams=len(manifest.streams),
        k=manifest.k,
        method=manifest.method,
        streams="\n".join(_stream_row(stream) for stream in manifest.streams),
        independent=manifest.selection.independent,
        joint=manifest.selection.joint,
        names=_names(concepts),
        profile="\n".join(_profile_row(name, p) for name, p in profile.items()),
        metrics=_metrics(manifest.metrics),
        provenance=_provenance(manifest),
    )


def _stream_row(stream: ArtifactStream) -> str:
    spec = stream.spec
    encoder = f"{spec.encoder.kind} {spec.encoder.name}" if spec.encoder else "imported activations"
    revision = spec.encoder.revision[:19] if spec.encoder else ""
    cells = (spec.name, spec.modality, spec.d_in, encoder, revision, stream.normalisation)
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _profile_row(name: str, profile: StreamProfile) -> str:
    fires = int((profile.rates_C > 0).sum())
    active, fvu = profile.l0.mean, profile.fvu.mean
    return f"| {name} | {profile.items:,} | {fires:,} | {active:.1f} | {fvu:.3f} |"


def _names(concepts: Sequence[Concept]) -> str:
    named = [concept for concept in concepts if concept.label is not None]
    if not named:
        return "No concept has a name: the run was not named before this export."
    sources = Counter(concept.source for concept in named)
    found = ", ".join(f"{count:,} by {source}" for source, count in sources.most_common())
    mean = sum(concept.score or 0 for concept in named) / len(named)
    return (
        f"{len(named):,} of {len(concepts):,} concepts have a name ({found}; mean score "
        f"{mean:.2f}). They are proposals that nobody has looked at; the others fit no word well."
    )


def _metrics(metrics: Mapping[str, float]) -> str:
    if not metrics:
        return "The run was not evaluated before this export."
    rows = "\n".join(f"| `{name}` | {value:.4g} |" for name, value in metrics.items())
    head = "Held-out items; keys as in the run's `report.json`.\n\n| figure | value |\n|---|---|"
    return f"{head}\n{rows}"


def _provenance(manifest: Manifest) -> str:
    known = manifest.training
    facts = {
        "recipe": known.recipe,
        "seed": known.seed,
        "steps": known.steps,
        "activation store": known.store,
        "commit": known.commit,
        **known.versions,
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value is not None)
