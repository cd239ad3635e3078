"""The artifact's README, a model card that the hub reads: what it is, what it is good for and not,
how well it does, how to use it. Computes no figure.

Figures of joint encoding stand beside those of independent encoding, never alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from koine.concepts import Concept
from koine.manifest import ArtifactStream, Manifest
from koine.profile import StreamProfile
from training.export.card_text import CARD, FIGURES

MOST_NAMED = 20
"""Named concepts that the card lists."""
LICENCES = {
    "all-MiniLM-L6-v2": "Apache-2.0",
    "vit_large_patch14_reg4_dinov2.lvd142m": "Apache-2.0",
    "vit_base_patch14_reg4_dinov2.lvd142m": "Apache-2.0",
}
"""Of published encoders whose name stands for one set of weights."""
_PAIRLESS = {
    "active_jaccard.mean": "active concepts that streams share (Jaccard), mean over pairs",
    "active_jaccard_adjusted.mean": "the same above chance",
    "label_jaccard.alive": "labels' Jaccard over concepts alive in all streams",
    "latents.dead": "concepts that never fire",
}


def model_card(
    manifest: Manifest, profile: Mapping[str, StreamProfile], concepts: Sequence[Concept]
) -> str:
    """The Markdown text, YAML first. It names no date, so that equal runs give equal cards."""
    first = next(iter(manifest.streams)).spec
    return CARD.format(
        front=yaml.safe_dump(_front(manifest), sort_keys=False, allow_unicode=True),
        title=manifest.title,
        name=manifest.name,
        num_concepts=manifest.num_concepts,
        num_streams=len(manifest.streams),
        names=", ".join(f"`{stream.spec.name}`" for stream in manifest.streams),
        k=manifest.k,
        method=manifest.method,
        first=first.name,
        d_in=first.d_in,
        streams="\n".join(_stream_row(stream) for stream in manifest.streams),
        independent=manifest.selection.independent,
        joint=manifest.selection.joint,
        profile="\n".join(_profile_row(name, p) for name, p in profile.items()),
        figures=_figures(manifest),
        concepts=_concepts(concepts),
        smaller=_precision(manifest) + _distilled(manifest),
        provenance=_provenance(manifest),
    )


def _front(manifest: Manifest) -> dict[str, Any]:
    """The hub's metadata; only independent figures, which are what a stream alone does."""
    modalities = sorted({stream.spec.modality for stream in manifest.streams})
    front: dict[str, Any] = {
        "library_name": "koine",
        "license": "unknown",
        "pipeline_tag": "feature-extraction",
        "tags": ["koine", "sparse-autoencoder", "interpretability", "concepts", *modalities],
    }
    results = [
        {"type": key, "value": round(value, 6), "name": key}
        for key, value in manifest.metrics.items()
        if key.startswith("independent.")
    ]
    if results:
        data = {"name": "held-out items", "type": manifest.training.recipe or "imported"}
        task = {"type": "feature-extraction"}
        result = {"task": task, "dataset": data, "metrics": results}
        front["model-index"] = [{"name": manifest.title, "results": [result]}]
    return front


def _stream_row(stream: ArtifactStream) -> str:
    spec = stream.spec
    encoder = f"{spec.encoder.kind} {spec.encoder.name}" if spec.encoder else "imported activations"
    revision = f"`{spec.encoder.revision[:19]}`" if spec.encoder else ""
    licence = LICENCES.get(spec.encoder.name, "not recorded") if spec.encoder else ""
    cells = (f"`{spec.name}`", spec.modality, spec.d_in, encoder, revision, licence)
    return _row(*cells, stream.normalisation)


def _profile_row(name: str, profile: StreamProfile) -> str:
    fires = int((profile.rates_C > 0).sum())
    active, fvu = profile.l0.mean, profile.fvu.mean
    return _row(f"`{name}`", f"{profile.items:,}", f"{fires:,}", f"{active:.1f}", f"{fvu:.3f}")


def _figures(manifest: Manifest) -> str:
    metrics = manifest.metrics
    if not metrics:
        return "The run was not evaluated before this export: nothing is known of its agreement."
    rows = [
        _row(what, _value(metrics, f"independent.{key}"), _value(metrics, f"joint.{key}"))
        for key, what in _PAIRLESS.items()
        if f"independent.{key}" in metrics
    ]
    names = [stream.spec.name for stream in manifest.streams]
    for kind, what in (("fvu.{}", "variance unexplained"), ("retrieval.{}.r1", "R@1")):
        for pair in (f"{a}->{b}" for a in names for b in names):
            key = kind.format(pair)
            if f"independent.{key}" in metrics:
                both = (_value(metrics, f"{mode}.{key}") for mode in ("independent", "joint"))
                rows.append(_row(f"{what}, `{pair}`", *both))
    return "\n".join([FIGURES, *rows])


def _value(metrics: Mapping[str, float], key: str) -> str:
    return f"{metrics[key]:.4g}" if key in metrics else ""


def _concepts(concepts: Sequence[Concept]) -> str:
    counts = Counter(concept.status for concept in concepts)
    named = [concept for concept in concepts if concept.label is not None]
    if not named:
        return "No concept is named: they are numbers until `python -m training name` has run."
    states = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
    best = sorted(named, key=lambda concept: (-(concept.score or 0), concept.id))[:MOST_NAMED]
    rows = [
        _row(c.id, _cell(c.label or ""), c.status, f"{c.score or 0:.2f}", _rates(c)) for c in best
    ]
    head = f"{states}. The {len(best)} with the best score, as exported:\n"
    table = "| concept | label | status | score | fires on |\n|---|---|---|---|---|"
    return "\n".join([head, table, *rows])


def _rates(concept: Concept) -> str:
    return ", ".join(f"{rate:.2%} `{name}`" for name, rate in concept.rate.items())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


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
        "adopted from the checkpoint": known.adopted,
        "commit": known.commit,
        **known.versions,
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value is not None)


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"
