"""The artifact's README: what it is, what it was made from, how to use it; computes nothing."""

from __future__ import annotations

from collections.abc import Mapping

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

## Reference statistics

Training items, encoded independently.

| stream | items | concepts that fire | active per item | mean fvu |
|---|---|---|---|---|
{profile}

## Figures

{metrics}

{smaller}## Where it comes from

{provenance}

## Use

```
python -m koine inspect DIR        what this is
python -m koine verify DIR         that every byte is as exported
KOINE_ARTIFACT=DIR bentoml serve service.app:ConceptService
```
"""


def model_card(manifest: Manifest, profile: Mapping[str, StreamProfile]) -> str:
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
        profile="\n".join(_profile_row(name, p) for name, p in profile.items()),
        metrics=_metrics(manifest.metrics),
        smaller=_precision(manifest) + _distilled(manifest),
        provenance=_provenance(manifest),
    )


def _stream_row(stream: ArtifactStream) -> str:
    spec = stream.spec
    encoder = f"{spec.encoder.kind} {spec.encoder.name}" if spec.encoder else "imported activations"
    revision = spec.encoder.revision[:19] if spec.encoder else ""
    cells = (spec.name, spec.modality, spec.d_in, encoder, revision, stream.normalisation)
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _profile_row(name: str, profile: StreamProfile) -> str:
    items = max(profile.items, 1)
    active = float(profile.fires_C.sum()) / items
    steps = [(i + 0.5) / 32 for i in range(len(profile.fvu_B))]
    fvu = sum(step * int(count) for step, count in zip(steps, profile.fvu_B, strict=True)) / items
    fires = int((profile.fires_C > 0).sum())
    return f"| {name} | {profile.items:,} | {fires:,} | {active:.1f} | {fvu:.3f} |"


def _metrics(metrics: Mapping[str, float]) -> str:
    if not metrics:
        return "The run was not evaluated before this export."
    rows = "\n".join(f"| `{name}` | {value:.4g} |" for name, value in metrics.items())
    head = "Held-out items; keys as in the run's `report.json`.\n\n| figure | value |\n|---|---|"
    return f"{head}\n{rows}"


def _precision(manifest: Manifest) -> str:
    precision = manifest.precision
    if precision is None:
        return ""
    rows = "\n".join(
        f"| {name} | {s.method} | {s.items} | {s.support_jaccard:.3f} | {s.fvu:.3f} | "
        f"{s.fvu_fp32:.3f} | {s.bytes / 1e6:.1f} | {s.bytes_fp32 / 1e6:.1f} | "
        f"{'' if s.speed is None else s.speed} |"
        for name, s in precision.streams.items()
    )
    return (
        f"## Precision: {precision.kind}\n\nAgainst the same dictionary in float32, on held-out "
        "items, each stream alone. Speed: float32's time over this one's on the CPU that exported, "
        "one thread, batches of 8.\n\n"
        "| stream | how | items | support Jaccard | fvu | fvu fp32 | MB | MB fp32 | speed |\n"
        f"|---|---|---|---|---|---|---|---|---|\n{rows}\n\n"
    )


def _distilled(manifest: Manifest) -> str:
    if not manifest.distilled:
        return ""
    rows = "\n".join(
        f"| {name} | {d.teacher.kind} {d.teacher.name} | {d.student} | {d.parameters:,} | "
        f"{d.parameters_teacher:,} | {d.metrics.get('support_jaccard', float('nan')):.3f} | "
        f"{d.metrics.get('support_jaccard_adjusted', float('nan')):.3f} |"
        for name, d in manifest.distilled.items()
    )
    return (
        "## Students\n\nThese backbones are distilled: they predict their teacher's activations, "
        "so codes mean the same. Jaccard: of supports to the teacher's, held out; adjusted: "
        "0 is chance, 1 the teacher.\n\n"
        "| stream | teacher | student | parameters | teacher's | Jaccard | adjusted |\n"
        f"|---|---|---|---|---|---|---|\n{rows}\n\n"
    )


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
