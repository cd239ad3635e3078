"""The gate: what the artifact computes must be what torch computes; writes nothing.

Two float32 sums of D terms in another order differ by about √D · 6e-8 of their size: 2e-6 at
D = 1024. `HEAD_TOLERANCE` is five times that, relative to the item's largest pre-code, and bounds
both the values and how far apart two scores may lie that count as tied. A backbone multiplies
through dozens of layers: ViT-L/14 is 1e-6 of the activations' norm apart, MobileNetV2 4e-6;
`BACKBONE_TOLERANCE` leaves room for other processors' kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from koine.artifact import Artifact
from koine.codes import PAD, Codes
from koine.encoder import ConceptEncoder
from koine.errors import ExportError
from koine.localisation import Localisers
from koine.sessions import CPU
from koine.texts import Tokens
from koine.types import ActsND, ImagesNHWC, Mode
from training.encoders.encoder import Encoder
from training.export.artifact import ReferenceBatch
from training.localisation.patches import PatchModule
from training.model import AlignedDictionary, dense
from training.unit import unit

HEAD_TOLERANCE = 1e-5
FVU_TOLERANCE = 1e-4
"""Absolute up to fvu 1, relative above: two sums of squares and their ratio."""
BACKBONE_TOLERANCE = 1e-4
SINGLES = 8
"""Items that are also encoded one at a time: an answer must not depend on its batch."""
_BATCH = 16


class Parity(NamedTuple):
    """How far ONNX Runtime and torch were apart."""

    what: str
    items: int
    error: float
    """Largest difference, relative as in the tolerance."""
    ties: int
    """Concepts active in only one of the two because their scores tie."""


def check_heads(
    model: AlignedDictionary, encoder: ConceptEncoder, batch: ReferenceBatch
) -> list[Parity]:
    """Compares codes in both modes, in a batch and one by one.

    Raises `ExportError` with the figures.
    """
    return [
        _check_head(_Case(model, batch, mode, name), encoder)
        for mode in ("independent", "joint")
        for name in batch.acts
    ]


def check_backbone(
    name: str,
    ours: Encoder,
    encoder: ConceptEncoder,
    batch: ImagesNHWC | Tokens,
) -> Parity:
    """Compares activations, in batches and one by one. Raises `ExportError` with the figures."""
    n = len(batch[0]) if isinstance(batch, Tokens) else len(batch)
    parts = [_part(batch, slice(i, i + _BATCH)) for i in range(0, n, _BATCH)]
    torch_ND = np.concatenate([ours.activations(part) for part in parts])
    onnx_ND = np.concatenate([encoder.activations(name, part) for part in parts])
    singles_ND = np.concatenate(
        [encoder.activations(name, _part(batch, slice(i, i + 1))) for i in range(min(n, SINGLES))]
    )
    error = max(_apart(onnx_ND, torch_ND), _apart(singles_ND, torch_ND[: len(singles_ND)]))
    if not error <= BACKBONE_TOLERANCE:
        raise ExportError(
            f"the backbone of stream `{name}` differs between torch and ONNX Runtime by "
            f"{error:.2g} of the activations' norm on {n} items; at most {BACKBONE_TOLERANCE:g} is "
            "allowed. Nothing was written. Give the encoder as an ONNX file instead"
        )
    return Parity(f"{name} backbone", n, error, 0)


def check_localiser(
    name: str, module: PatchModule, artifact: Artifact, images_NHWC: ImagesNHWC
) -> Parity:
    """Compares patches, relative to their largest row. Raises `ExportError` with the figures."""
    localisers = Localisers(artifact, [CPU])
    torch_NPD = module.fine(images_NHWC)
    onnx_NPD = localisers.patches(name, images_NHWC)
    largest = float(np.linalg.norm(torch_NPD, axis=-1).max())
    error = float(np.linalg.norm(onnx_NPD - torch_NPD, axis=-1).max()) / largest
    if not error <= BACKBONE_TOLERANCE:
        raise ExportError(
            f"the localiser of stream `{name}` differs between torch and ONNX Runtime by "
            f"{error:.2g} of its largest row on {len(images_NHWC)} images; at most "
            f"{BACKBONE_TOLERANCE:g} is allowed. Nothing was written"
        )
    return Parity(f"{name} localiser", len(images_NHWC), error, 0)


class _Case(NamedTuple):
    """One stream in one mode."""

    model: AlignedDictionary
    batch: ReferenceBatch
    mode: Mode
    name: str

    @property
    def what(self) -> str:
        return f"{self.name} {self.mode}"

    @property
    def here_N(self) -> np.ndarray:
        """Which items have the stream."""
        return self.batch.present_NS[:, list(self.batch.acts).index(self.name)]


class _Wanted(NamedTuple):
    """What torch says, for items that have the stream."""

    codes_NC: np.ndarray
    fvu_N: np.ndarray
    scores_NC: np.ndarray
    """What it selects by."""
    bound_N: np.ndarray
    """Differences up to this are rounding."""


def _check_head(case: _Case, encoder: ConceptEncoder) -> Parity:
    acts, present_NS = case.batch
    singles = [
        encoder.encode({s: a[i : i + 1] for s, a in acts.items()}, case.mode, present_NS[i : i + 1])
        for i in range(min(len(present_NS), SINGLES))
    ]
    together = encoder.encode(acts, case.mode, present_NS)[case.name]
    found = [
        _compare(case, together),
        _compare(case, _stacked([single[case.name] for single in singles])),
    ]
    return found[0]._replace(error=max(f.error for f in found), ties=max(f.ties for f in found))


def _compare(case: _Case, got: Codes) -> Parity:
    """`got` holds the codes of the batch's first items, or of all."""
    _check_order(got, case.what)
    here_N = case.here_N[: len(got.fvu_N)]
    wanted = _wanted(case, len(here_N))
    codes_NC = got.dense(case.model.config.num_concepts)[here_N]
    bound_N1 = wanted.bound_N[:, None]
    kth_N1 = np.partition(wanted.scores_NC, -case.model.config.k, axis=1)[:, -case.model.config.k]
    near_kth_NC = np.abs(wanted.scores_NC - kth_N1[:, None]) <= bound_N1
    near_zero_NC = np.maximum(codes_NC, wanted.codes_NC) <= bound_N1
    differs_NC = (codes_NC > 0) != (wanted.codes_NC > 0)
    tied_NC = differs_NC & (near_kth_NC | near_zero_NC)
    gap_NC = np.where(tied_NC, 0, np.abs(codes_NC - wanted.codes_NC)) / bound_N1 * HEAD_TOLERANCE
    # another concept at a tied k-th place gives another reconstruction
    fvu_gap_N = np.abs(got.fvu_N[here_N] - wanted.fvu_N) / np.maximum(1, wanted.fvu_N)
    fvu_error = float(fvu_gap_N[~tied_NC.any(1)].max(initial=0))
    error = float(gap_NC.max(initial=0))
    wrong = int((differs_NC & ~tied_NC).sum())
    if wrong or not error <= HEAD_TOLERANCE or not fvu_error <= FVU_TOLERANCE:
        raise ExportError(
            f"the codes of stream `{case.what}` differ between torch and ONNX Runtime on "
            f"{len(codes_NC)} items: {wrong} concepts active in only one of them (ties aside), "
            f"values by {error:.2g} of the largest pre-code (at most {HEAD_TOLERANCE:g}), fvu by "
            f"{fvu_error:.2g} (at most {FVU_TOLERANCE:g}). Nothing was written"
        )
    if (got.indices_NK[~here_N] != PAD).any():
        raise ExportError(
            f"stream `{case.what}` has codes where items lack it; nothing was written"
        )
    return Parity(case.what, len(codes_NC), error, int(tied_NC.sum()))


def _check_order(codes: Codes, what: str) -> None:
    """Strongest first, ties by index, pads last with value 0."""
    indices, values = codes.indices_NK, codes.values_NK
    falls = values[:, :-1] > values[:, 1:]
    tied = (values[:, :-1] == values[:, 1:]) & (indices[:, :-1] < indices[:, 1:])
    padded = indices[:, 1:] == PAD
    if not (falls | tied | padded).all() or ((indices == PAD) != (values == 0)).any():
        raise ExportError(f"the codes of stream `{what}` come out of order; nothing was written")


@torch.no_grad()
def _wanted(case: _Case, count: int) -> _Wanted:
    """Torch's answer for those of the first `count` items that have the stream."""
    model, (_, present_NS) = case.model, case.batch
    acts = {name: torch.from_numpy(a) for name, a in case.batch.acts.items()}
    codes = model.encode(acts, case.mode, torch.from_numpy(present_NS))[case.name]
    stream = model.of(case.name)
    u_ND = unit(acts[case.name])
    error_N = (model.decode(case.name, codes) - u_ND).square().sum(1)
    fvu_N = error_N / (u_ND - stream.mean_D).square().sum(1)
    shared = case.mode == "joint" and model.config.selection == "global"
    scores: list[np.ndarray] = []
    for column, (name, acts_ND) in enumerate(acts.items()):
        if shared or name == case.name:
            scores_NC = model.scores(name, model.of(name).normalise(acts_ND)).numpy()
            scores.append(scores_NC * present_NS[:, column, None])
    size_N = np.max([np.abs(s).max(1) for s in scores], axis=0)
    rows = np.flatnonzero(case.here_N[:count])
    return _Wanted(
        dense(codes, model.config.num_concepts).numpy()[rows],
        fvu_N.numpy()[rows],
        np.sum(scores, axis=0)[rows],
        HEAD_TOLERANCE * np.maximum(size_N[rows], np.finfo(np.float32).tiny),
    )


def _stacked(parts: Sequence[Codes]) -> Codes:
    return Codes(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _part(batch: np.ndarray | Tokens, rows: slice) -> np.ndarray | Tokens:
    if isinstance(batch, Tokens):
        return Tokens(batch.ids_NT[rows], batch.mask_NT[rows])
    return batch[rows]


def _apart(got_ND: ActsND, wanted_ND: ActsND) -> float:
    """Largest distance between two rows, relative to the wanted row's norm."""
    if not np.isfinite(got_ND).all() or not np.isfinite(wanted_ND).all():
        return float("inf")
    norms_N = np.maximum(np.linalg.norm(wanted_ND, axis=1), np.finfo(np.float32).tiny)
    return float((np.linalg.norm(got_ND - wanted_ND, axis=1) / norms_N).max())
