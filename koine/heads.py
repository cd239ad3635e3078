"""Activations to codes by the artifact's head graphs; knows no image, text or manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from koine.codes import PAD, Codes
from koine.manifest import JOINT_HEAD
from koine.sessions import Session
from koine.types import ActsND, PresentNS

ROWS_PER_RUN = 256
"""Rows that one graph call takes: it gathers N · K dictionary rows, so this bounds the memory."""


class Heads:
    """The selection graphs of one folder: one for each stream alone, one for all together."""

    def __init__(
        self,
        folder: Path,
        heads: Mapping[str, str],
        widths: Mapping[str, int],
        providers: Sequence[str],
        *,
        threads: int = 0,
        required: bool = False,
        gpu: int = 0,
    ) -> None:
        """`heads` and `widths` (D) by stream, in the order of the joint graph's `present`."""
        self._widths = dict(widths)
        loaded = partial(Session, providers=providers, threads=threads, required=required, gpu=gpu)
        self._own = {name: loaded(folder / file) for name, file in heads.items()}
        self._joint = loaded(folder / JOINT_HEAD)

    @property
    def provider(self) -> str:
        """The execution provider that runs the graphs."""
        return self._joint.provider

    def independent(self, stream: str, acts_ND: ActsND) -> Codes:
        """Codes that `stream` selects alone."""
        return _joined([self._alone(stream, part_ND) for part_ND in _parts(acts_ND)])

    def joint(self, acts: Mapping[str, ActsND], present_NS: PresentNS) -> dict[str, Codes]:
        """Codes of every stream on one shared support per item; absent streams are all pads."""
        runs = [
            self._together({name: a[i : i + ROWS_PER_RUN] for name, a in acts.items()}, part_NS)
            for i, part_NS in zip(_starts(len(present_NS)), _parts(present_NS), strict=True)
        ]
        return {name: _joined([run[name] for run in runs]) for name in self._own}

    def _alone(self, stream: str, acts_ND: ActsND) -> Codes:
        out = self._own[stream].run({"acts": acts_ND})
        return Codes(out["indices"], out["values"], out["fvu"])

    def _together(self, acts: Mapping[str, ActsND], present_NS: PresentNS) -> dict[str, Codes]:
        n = len(present_NS)
        inputs: dict[str, np.ndarray] = {"present": present_NS}
        for name, width in self._widths.items():
            inputs[f"acts.{name}"] = acts.get(name, np.zeros((n, width), np.float32))
        out = self._joint.run(inputs)
        return {
            name: Codes(out[f"{name}.indices"], out[f"{name}.values"], out[f"{name}.fvu"])
            for name in self._own
        }


def pad_absent(codes: Codes, present_N: np.ndarray) -> Codes:
    """The codes with nothing active, and fvu NaN, where the item lacks the stream."""
    return Codes(
        np.where(present_N[:, None], codes.indices_NK, np.int32(PAD)),
        np.where(present_N[:, None], codes.values_NK, np.float32(0)),
        np.where(present_N, codes.fvu_N, np.float32(np.nan)),
    )


def _starts(n: int) -> range:
    return range(0, max(n, 1), ROWS_PER_RUN)


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[i : i + ROWS_PER_RUN] for i in _starts(len(rows))]


def _joined(parts: Sequence[Codes]) -> Codes:
    if len(parts) == 1:
        return parts[0]
    return Codes(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
