"""Which concept a text means: by the concepts' labels, else by what a text stream activates."""

from __future__ import annotations

import difflib
import random
import string
from collections.abc import Sequence
from threading import Lock
from typing import Literal, NamedTuple

import numpy as np

from koine.codes import PAD, Codes
from koine.concepts import Concept
from koine.encoder import ConceptEncoder
from koine.errors import UnknownConceptError

NEAREST = 3
"""Labels that are named where none fits, and concepts that are told where several do."""
NONSENSE = 64
"""Strings of random letters by which the floor is set."""
PASSING = 0.95
"""Share of the nonsense that stays below the floor: `docs/localisation.md` has the measurement."""

Way = Literal["label", "text_stream"]


class Match(NamedTuple):
    """A concept and how strongly a text activates it."""

    concept: Concept
    score: float


class Found(NamedTuple):
    """The concept that a text means."""

    concept: Concept
    by: Way
    score: float
    """By label: the share of the text's words that the label has. By stream: its value in the
    text's code."""
    stream: str | None = None
    """That read the text."""
    floor: float | None = None
    """What nonsense reaches in that stream; `score` is above."""
    matches: tuple[Match, ...] = ()
    """The strongest concepts in that stream, the one found first."""


class Finder:
    """Finds concepts of one dictionary. Safe to call from several threads."""

    def __init__(self, encoder: ConceptEncoder) -> None:
        self._encoder = encoder
        streams = encoder.artifact.manifest.streams
        texts = [s.spec.name for s in streams if s.spec.modality == "text" and s.backbone]
        self.text_stream = texts[0] if texts else None
        """Reads texts that are no label; None where the dictionary has none."""
        self._floor: float | None = None
        self._measuring = Lock()

    def find(self, text: str, concepts: Sequence[Concept], stream: str) -> Found:
        """The concept that `text` means in the image stream `stream`.

        A label goes first (`find_label`), then the concept that the text activates most of those
        that `stream` ever activates. Raises `UnknownConceptError` with the nearest labels where
        no label fits and no concept is above the floor, `TextError` for an empty text.
        """
        labelled = find_label(text, concepts, stream)
        if labelled is not None:
            label_words = len((labelled.label or "").split())
            return Found(labelled, "label", label_words / max(1, len(text.split())))
        if self.text_stream is None:
            raise UnknownConceptError(nothing_fits(text, concepts, None))
        row = self._codes([text])
        found: list[Match] = []
        for index, value in zip(row.indices_NK[0], row.values_NK[0], strict=True):
            if index != PAD and concepts[int(index)].rate.get(stream, 1.0) > 0:
                found.append(Match(concepts[int(index)], float(value)))
        found = found[:NEAREST]
        floor = self.floor
        if not found or found[0].score <= floor:
            reached = f"{found[0].score:.3g}" if found else "nothing"
            told = f"`{self.text_stream}` activates {reached}, nonsense reaches {floor:.3g}"
            raise UnknownConceptError(nothing_fits(text, concepts, told))
        best = found[0]
        return Found(best.concept, "text_stream", best.score, self.text_stream, floor, tuple(found))

    @property
    def floor(self) -> float:
        """What `PASSING` of strings of random letters stay below; measured once."""
        with self._measuring:
            if self._floor is None:
                values_NK = self._codes(nonsense(NONSENSE)).values_NK
                self._floor = float(np.quantile(values_NK.max(1), PASSING))
            return self._floor

    def _codes(self, texts: Sequence[str]) -> Codes:
        name = self.text_stream
        assert name is not None
        acts_ND = self._encoder.activations(name, self._encoder.tokenize(name, texts))
        return self._encoder.encode({name: acts_ND})[name]


def nonsense(count: int, seed: int = 0) -> list[str]:
    """Strings of one to three words of 3 to 10 random letters, the same for the same seed."""
    rng = random.Random(seed)

    def word() -> str:
        return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 10)))

    return [" ".join(word() for _ in range(rng.randint(1, 3))) for _ in range(count)]


def find_label(text: str, concepts: Sequence[Concept], stream: str) -> Concept | None:
    """The concept whose label is `text`, in any case, or whose label's words are all in it.

    Of several, the one with the longest label, then the one that `stream` activates most often.
    Rejected labels count for nothing. None where no label fits.
    """
    wanted = " ".join(text.casefold().split())
    named = {c.id: label for c in concepts if (label := _label(c))}
    fitting = [id_ for id_, label in named.items() if label == wanted]
    if not fitting:
        words = set(wanted.split())
        fitting = [id_ for id_, label in named.items() if set(label.split()) <= words]
    if not fitting:
        return None
    by_id = {concept.id: concept for concept in concepts}
    most = max(fitting, key=lambda id_: (len(named[id_]), by_id[id_].rate.get(stream, 0.0), -id_))
    return by_id[most]


def nothing_fits(text: str, concepts: Sequence[Concept], told: str | None) -> str:
    """Why no concept was found, with the nearest labels."""
    why = f"no concept fits {text[:80]!r}" + (f" ({told})" if told else "")
    labels = sorted({label for c in concepts if (label := _label(c))})
    if not labels:
        return f"{why}, and none of this dictionary's has a label; give a concept by its id"
    near = difflib.get_close_matches(text.casefold()[:80], labels, NEAREST, cutoff=0.0)
    return f"{why}; the nearest labels are {', '.join(near)}"


def _label(concept: Concept) -> str:
    return "" if concept.status == "rejected" else (concept.label or "").casefold().strip()
