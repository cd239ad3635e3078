"""Writes a dictionary's streams as folders that SAELens loads; loads no SAELens.

A stream that selects by its pre-codes alone is a TopK autoencoder of SAELens (v6, `topk`). It
brings an activation x to x' = √D · x / ‖x‖ (`constant_norm_rescale`), encodes
relu(topk((x' - b_dec) · W_enc + b_enc)) and decodes (codes · W_dec + b_dec) · ‖x‖ / √D. With our
z = (unit(x) - shift) · scale and pre_codes = (z - pre_bias) · encoderᵀ + latent_bias that is

    W_enc = encoderᵀ · scale / √D             b_enc = latent_bias
    W_dec = dictionary · √D / scale           b_dec = (pre_bias / scale + shift) · √D

A selector scores concepts by more than that, which no architecture of SAELens can say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

import koine
from koine.errors import ExportError, UnknownStreamError
from training.activations.store import ActivationStore
from training.export.artifact import staged
from training.export.build import finished
from training.interchange.saelens_card import view_card
from training.model import AlignedDictionary, Stream, TopK, dense, strongest_first
from training.unit import unit

CONFIG, WEIGHTS, CARD = "cfg.json", "sae_weights.safetensors", "README.md"
ROWS = 1024
"""Held-out items on which a view is compared with the stream."""
LEAST_JACCARD = 0.999
"""An exact view differs from its stream by ties and rounding at rank k alone."""


class Agreement(NamedTuple):
    """How a view encodes held-out items, beside the stream that it is a view of."""

    items: int
    jaccard: float
    """Mean |A ∩ B| / |A ∪ B| of the view's active concepts and the stream's independent ones."""
    error: float
    """Largest difference of a value that both give."""
    fvu: float
    """The view's own fvu."""
    stream_fvu: float
    """The stream's."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One stream as SAELens's tensors and configuration."""

    stream: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    agreement: Agreement
    exact: bool
    """Whether its codes are the stream's independent ones."""


def write_views(
    run: Path,
    out: Path,
    *,
    streams: Sequence[str] | None = None,
    store: Path | None = None,
    pre_codes: bool = False,
) -> list[View]:
    """Writes `out/<stream>/` for each stream of a finished run, and a card; returns what it wrote.

    Raises `ExportError` where the run has a selector, unless `pre_codes` asks for what its
    pre-codes alone would select, which are other codes, and where an exact view's codes are not
    the stream's on held-out items. `out` appears whole or not at all.
    """
    record, model, acts = finished(run, store)
    exact = model.config.selector is None
    if not exact and not pre_codes:
        raise ExportError(
            f"{run} selects concepts by a selector's scores in a space that its streams share, "
            "which no architecture of SAELens can express. Fit with `--selector pre_codes` or "
            "`--method sparc` for exact views, or give --pre-codes for TopK over the pre-codes "
            "alone: other codes, whose agreement with the stream's own the card then states"
        )
    names = list(streams or model.streams)
    for name in names:
        if name not in model.streams:
            raise UnknownStreamError(f"{name!r} is no stream of it; {', '.join(model.streams)} are")
    views = [_view(model, acts, name, exact) for name in names]
    with staged(out, _are_views, "SAELens view") as folder:
        for view in views:
            _write(folder / view.stream, view)
        (folder / CARD).write_text(view_card(views, record), encoding="utf-8")
    return views


@torch.no_grad()
def encode(view: View, acts_ND: Tensor) -> TopK:
    """Codes as SAELens computes them."""
    t = view.tensors
    norm_N1 = acts_ND.norm(dim=1, keepdim=True).clamp_min(1e-30)
    x_ND = acts_ND * (acts_ND.shape[1] ** 0.5 / norm_N1)
    pre_NC = (x_ND - t["b_dec"]) @ t["W_enc"] + t["b_enc"]
    values_NK, indices_NK = pre_NC.topk(view.config["k"], dim=1)
    return strongest_first(TopK(indices_NK, values_NK.relu()))


def folded(stream: Stream) -> dict[str, Tensor]:
    """SAELens's tensors of a stream, as at the head of this file."""
    root = stream.encoder_CD.shape[1] ** 0.5
    bias_D = stream.pre_bias_D / stream.scale + stream.shift_D
    tensors = {
        "W_enc": stream.encoder_CD.T * (stream.scale / root),
        "b_enc": stream.latent_bias_C,
        "W_dec": stream.dictionary_CD * (root / stream.scale),
        "b_dec": bias_D * root,
    }
    return {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}


def _view(model: AlignedDictionary, store: ActivationStore, name: str, exact: bool) -> View:
    stream = model.of(name)
    tensors = folded(stream)
    config = _config(model, store, name, exact)
    blank = Agreement(0, 0.0, 0.0, 0.0, 0.0)
    view = View(stream=name, config=config, tensors=tensors, agreement=blank, exact=exact)
    agreement = _compare(view, model, store)
    if exact and agreement.jaccard < LEAST_JACCARD:
        raise ExportError(
            f"the view of stream `{name}` does not encode as the stream does: support Jaccard "
            f"{agreement.jaccard:.4f} over {agreement.items} held-out items, values apart by "
            f"{agreement.error:.1e}; nothing was written. Please report this"
        )
    return View(stream=name, config=config, tensors=tensors, agreement=agreement, exact=exact)


def _config(
    model: AlignedDictionary, store: ActivationStore, name: str, exact: bool
) -> dict[str, Any]:
    spec = next(spec for spec in store.streams if spec.name == name)
    return {
        "architecture": "topk",
        "d_in": spec.d_in,
        "d_sae": model.config.num_concepts,
        "k": model.config.k,
        "rescale_acts_by_decoder_norm": False,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "constant_norm_rescale",
        "reshape_activations": "none",
        "metadata": {
            "model_name": spec.encoder.name if spec.encoder else None,
            "hook_name": f"pooled:{spec.encoder.pooling}" if spec.encoder else None,
            "koine_version": koine.__version__,
            "koine_stream": name,
            "koine_encoding": "independent" if exact else "pre-codes only",
        },
    }


def _compare(view: View, model: AlignedDictionary, store: ActivationStore) -> Agreement:
    own, theirs = [], []
    units: list[Tensor] = []
    for acts_ND in _held_out(store, view.stream):
        own.append(model.encode({view.stream: acts_ND}, "independent")[view.stream])
        theirs.append(encode(view, acts_ND))
        units.append(unit(acts_ND))
    ours = TopK(*(torch.cat(parts) for parts in zip(*own, strict=True)))
    seen = TopK(*(torch.cat(parts) for parts in zip(*theirs, strict=True)))
    num_concepts = model.config.num_concepts
    ours_NC, seen_NC = dense(ours, num_concepts), dense(seen, num_concepts)
    both_NC = (ours_NC > 0) & (seen_NC > 0)
    either_N = ((ours_NC > 0) | (seen_NC > 0)).sum(1).clamp_min(1)
    unit_ND = torch.cat(units)
    return Agreement(
        items=len(unit_ND),
        jaccard=float((both_NC.sum(1) / either_N).mean()),
        error=float(((ours_NC - seen_NC).abs() * both_NC).max()),
        fvu=_fvu(model, view.stream, seen, unit_ND),
        stream_fvu=_fvu(model, view.stream, ours, unit_ND),
    )


def _held_out(store: ActivationStore, name: str) -> Iterator[Tensor]:
    rows = next(r for s in ("test", "val", "train") if len(r := store.split(s)) > 0)[:ROWS]
    column = [spec.name for spec in store.streams].index(name)
    found = 0
    for start in range(0, len(rows), 128):
        batch = store.gather(rows[start : start + 128], None)
        acts_ND = batch.acts[name][batch.present_NS[:, column]]
        found += len(acts_ND)
        if len(acts_ND):
            yield torch.from_numpy(np.ascontiguousarray(acts_ND))
    if not found:
        raise ExportError(f"no held-out item has stream `{name}`: there is nothing to check it on")


def _fvu(model: AlignedDictionary, name: str, codes: TopK, unit_ND: Tensor) -> float:
    errors = (model.decode(name, codes) - unit_ND).square().sum()
    return float(errors / (unit_ND - unit_ND.mean(0)).square().sum())


def _are_views(out: Path) -> bool:
    return all(path.name == CARD or (path / CONFIG).is_file() for path in out.iterdir())


def _write(folder: Path, view: View) -> None:
    folder.mkdir()
    text = json.dumps(view.config, indent=2) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")
    save_file({name: t.numpy() for name, t in view.tensors.items()}, folder / WEIGHTS)
