"""The terms that a concept may be called by, and which items have them; knows no codes.

Terms come from a file of the user, from the built-in list, from the store's labels, and from the
captions: words and pairs of neighbours that are frequent enough. An item has a term where one of
its captions holds its words, or where it is one of its labels.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.sparse import csr_array

from koine.errors import DataError
from training.activations.rows import Row
from training.naming.words import Key, key_of, one_form, phrases_of, words_of

BUILT_IN = Path(__file__).parent / "words.txt"
LONGEST = 80
"""Characters of a term; what is longer is no name."""

Origin = Literal["own", "built-in", "label", "caption"]

PREFERENCE: Mapping[Origin, float] = {"own": 1.0, "built-in": 0.9, "label": 0.9, "caption": 0.85}
"""What a term's fit counts when terms compete: domain words come first, and of two that fit alike
a listed word is chosen before whatever stands in captions (`brick` before `front`)."""
PHRASE = 0.95
"""What a longer term's fit counts beside that: `black dog` must fit better than `dog`."""


class Term(NamedTuple):
    """A word or phrase that may name a concept."""

    text: str
    key: Key
    origin: Origin

    @property
    def preference(self) -> float:
        """Factor on its fit when it competes with others."""
        return PREFERENCE[self.origin] * (PHRASE if len(self.key) > 1 else 1.0)


def read_terms(path: Path) -> list[str]:
    """Terms of a UTF-8 text file, on lines of their own or between commas; `#` starts a remark.

    Raises DataError where the file is missing, no text, or holds no term.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"the vocabulary {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the vocabulary {path} is no UTF-8 text: save it as UTF-8") from error
    terms: dict[Key, str] = {}
    for number, line in enumerate(lines, start=1):
        for part in line.partition("#")[0].split(","):
            text = " ".join(part.split())
            if len(text) > LONGEST:
                raise DataError(
                    f"{path} line {number}: a term has at most {LONGEST} characters, got "
                    f"{len(text)}: {text[:40]!r}…; put each term on a line of its own"
                )
            if key := key_of(text):
                terms.setdefault(key, text)
    if not terms:
        raise DataError(f"the vocabulary {path} holds no term: write one a line, or leave it out")
    return list(terms.values())


def vocabulary_hash(own: Sequence[str]) -> str:
    """`sha256:` of the listed terms, built-in and own, in their order."""
    text = "\n".join([*read_terms(BUILT_IN), "", *own])
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def collect(
    rows: Sequence[Row],
    own: Sequence[str],
    *,
    labels: bool,
    min_items: int,
    max_terms: int,
) -> list[Term]:
    """Every term, the user's first; a text is listed once, under its first origin.

    `labels`: whether the rows' labels are terms. Of captions come at most `max_terms`, those of
    most items, each in `min_items` or more.
    """
    terms: dict[Key, Term] = {}
    listed: list[tuple[Origin, Iterable[str]]] = [("own", own), ("built-in", read_terms(BUILT_IN))]
    if labels:
        listed.append(("label", dict.fromkeys(chain.from_iterable(row.labels for row in rows))))
    for origin, texts in listed:
        for text in texts:
            key = key_of(text)
            if key and key not in terms:
                terms[key] = Term(text, key, origin)
    for key, text in _frequent(rows, min_items, max_terms).items():
        terms.setdefault(key, Term(text, key, "caption"))
    return list(terms.values())


def locate(rows: Sequence[Row], terms: Sequence[Term], *, labels: bool) -> csr_array:
    """Items × terms, 1 where an item has the term."""
    column = {term.key: number for number, term in enumerate(terms)}
    longest = max((len(term.key) for term in terms), default=0)
    starts, columns = [0], list[int]()
    for row in rows:
        found = {column[key] for caption in row.captions for key in _runs(caption, longest, column)}
        if labels:
            found.update(column[key] for label in row.labels if (key := key_of(label)) in column)
        columns.extend(sorted(found))
        starts.append(len(columns))
    ones_M = np.ones(len(columns), np.int64)
    return csr_array(
        (ones_M, np.array(columns, np.int64), np.array(starts, np.int64)),
        shape=(len(rows), len(terms)),
    )


def preferences(terms: Sequence[Term]) -> Float64[np.ndarray, "T"]:
    """Each term's factor."""
    return np.array([term.preference for term in terms])


def _frequent(rows: Sequence[Row], min_items: int, max_terms: int) -> dict[Key, str]:
    """Words and pairs of captions, each in the spelling that most captions have."""
    items: Counter[Key] = Counter()
    spelled: dict[Key, Counter[str]] = {}
    for row in rows:
        here: set[Key] = set()
        for caption in row.captions:
            for key, text in phrases_of(caption):
                here.add(key)
                spelled.setdefault(key, Counter())[text] += 1
        items.update(here)
    kept = [key for key, count in items.most_common(max_terms) if count >= min_items]
    return {key: spelled[key].most_common(1)[0][0] for key in kept}


def _runs(caption: str, longest: int, known: Mapping[Key, int]) -> Iterable[Key]:
    """Neighbouring words of a caption that are a known term."""
    words = [one_form(word) for word in words_of(caption)]
    for start in range(len(words)):
        for end in range(start + 1, min(start + longest, len(words)) + 1):
            if (key := tuple(words[start:end])) in known:
                yield key
