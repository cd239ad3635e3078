"""What the right answer to each sample is, computed beforehand and alone; sends nothing.

Right means: the same concepts but for one near-tie at rank k, and values that agree to the
tolerance that docs/api.md states for float noise, widened where a tie moved the refined values.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.serving.load import Outcome, Request
from benchmarks.serving.replies import Reply
from benchmarks.serving.samples import Sample
from koine.artifact import Artifact
from koine.codes import PAD, Codes
from koine.encoder import ConceptEncoder
from koine.images import MAX_PIXELS, decode_image
from koine.sessions import CPU

Verdict = Literal[
    "right", "told", "refused", "reset", "cut",  # each of these leaves the client knowing
    "wrong", "partial", "mixed_up", "mute", "lost",
]  # fmt: skip
"""`told`: an error that says whether to retry; `refused`, `reset`, `cut`: the connection broke,
visibly; `partial`: a success that lacks results; `mixed_up`: another item's answer; `mute`: an
error that does not say; `lost`: no answer in time."""
ACCOUNTED: frozenset[Verdict] = frozenset({"right", "told", "refused", "reset", "cut"})
_GRAVITY: tuple[Verdict, ...] = ("right", "wrong", "mixed_up")
RTOL, ATOL = 1e-5, 1e-6
RTOL_AFTER_TIE = 1e-2
"""Where one concept took another's place, the others' refined values move a little."""

Expected = Mapping[str, Mapping[int, float]]
"""Values by concept, by stream."""


class Truth:
    """Right answers of one artifact."""

    def __init__(self, title: str, expected: Sequence[Expected | None]) -> None:
        """`expected`: None where the right answer is an error."""
        self.title, self.expected = title, expected

    @classmethod
    def of(cls, artifact: Path, samples: Sequence[Sample]) -> Truth:
        """Encodes every sample alone. AssertionError where two could be taken for each other."""
        opened = Artifact.open(artifact)
        encoder = ConceptEncoder(opened, providers=[CPU], threads=1)
        truth = cls(opened.manifest.title, [_expected(encoder, sample) for sample in samples])
        truth.check_distinct()
        return truth

    def check_distinct(self) -> None:
        """AssertionError where a mix-up of two samples could not be seen."""
        known = [(n, one) for n, one in enumerate(self.expected) if one is not None]
        for at, (n, one) in enumerate(known):
            twins = [m for m, other in known[at + 1 :] if _agree(one, other)]
            assert not twins, f"samples {n} and {twins} have the same answer; change one"

    def verdict(self, sample: int, result: Mapping[str, Any]) -> Verdict:
        """Of one item's result."""
        expected = self.expected[sample]
        codes = result.get("codes")
        if expected is None:
            return "right" if codes is None and _is_error(result.get("error")) else "wrong"
        if not isinstance(codes, dict):
            return "wrong"
        try:
            got = {name: dict(zip(one["indices"], one["values"], strict=True))
                   for name, one in codes.items()}  # fmt: skip
        except (KeyError, TypeError, ValueError):
            return "wrong"
        if _agree(expected, got):
            return "right"
        others = (one for one in self.expected if one is not None)
        return "mixed_up" if any(_agree(other, got) for other in others) else "wrong"


class Judge:
    """Judges replies by the truth of the dictionary that answered."""

    def __init__(self, truths: Sequence[Truth], requests: Sequence[Request]) -> None:
        self._truths = {truth.title: truth for truth in truths}
        self._requests = requests

    def verdict(self, request: int, reply: Reply) -> Verdict:
        """The worst of the request's items."""
        if not reply.good:
            return _without_results(reply)
        try:
            answer = json.loads(reply.body)
            results, truth = answer["results"], self._truths[answer["dictionary"]]
        except (ValueError, KeyError, TypeError):
            return "partial"
        samples = self._requests[request].samples
        if len(results) != len(samples):
            return "partial"
        if [one["id"] for one in results] != [f"{n}:{at}" for n, at in enumerate(samples)]:
            return "mixed_up"
        found: list[Verdict] = [
            truth.verdict(at, one) for at, one in zip(samples, results, strict=True)
        ]
        return max(found, key=_GRAVITY.index)

    def count(self, outcomes: Sequence[Outcome]) -> Counter[Verdict]:
        """How many requests ended how."""
        return Counter(self.verdict(one.request, one.reply) for one in outcomes)

    @staticmethod
    def titles(outcomes: Sequence[Outcome]) -> Counter[str]:
        """How many good answers came from each dictionary."""
        good = (one.reply.body for one in outcomes if one.reply.good)
        return Counter(json.loads(body)["dictionary"] for body in good)


def _without_results(reply: Reply) -> Verdict:
    if reply.fault in ("refused", "reset", "cut"):
        return reply.fault
    if reply.fault == "timeout":
        return "lost"
    return "told" if reply.told else "mute"


def _is_error(error: object) -> bool:
    return isinstance(error, dict) and {"type", "title", "detail"} <= error.keys()


def _agree(expected: Expected, got: Expected) -> bool:
    return expected.keys() == got.keys() and all(
        _streams_agree(expected[name], got[name]) for name in expected
    )


def _streams_agree(expected: Mapping[int, float], got: Mapping[int, float]) -> bool:
    common = sorted(expected.keys() & got.keys())
    if not common or max(len(expected), len(got)) - len(common) > 1:
        return False
    tie = len(common) < max(len(expected), len(got))
    return np.allclose(
        [got[c] for c in common],
        [expected[c] for c in common],
        rtol=RTOL_AFTER_TIE if tie else RTOL,
        atol=ATOL,
    )


def _expected(encoder: ConceptEncoder, sample: Sample) -> Expected | None:
    if sample.broken:
        return None
    acts = {name: row_D[None] for name, row_D in sample.activations.items()}
    readable = {s.spec.name for s in encoder.artifact.manifest.streams if s.backbone}
    image = None
    if sample.image is not None:
        image = decode_image(sample.image, max_pixels=MAX_PIXELS)
    for name, spec in encoder.streams.items():
        if name in acts or name not in readable:
            continue
        if image is not None and spec.modality == "image":
            acts[name] = encoder.activations(name, encoder.preprocess(name, image)[None])
        elif sample.text is not None and spec.modality == "text":
            acts[name] = encoder.activations(name, encoder.tokenize(name, [sample.text]))
    return {name: _values(codes) for name, codes in encoder.encode(acts).items()}


def _values(codes: Codes) -> dict[int, float]:
    pairs = zip(codes.indices_NK[0].tolist(), codes.values_NK[0].tolist(), strict=True)
    return {concept: value for concept, value in pairs if concept != PAD}
