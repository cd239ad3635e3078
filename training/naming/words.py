"""Words out of texts, brought to one form so that `dogs`, `dog` and `Dog` meet; knows no items.

English only: plurals and the third person lose their `s`, `-ing` forms become their verb. Other
languages keep their words as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

Key = tuple[str, ...]
"""A term's words in their one form; what terms and captions are compared by."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_VOWELS = frozenset("aeiouy")
_ODD = """
    men:man women:woman children:child feet:foot teeth:tooth mice:mouse geese:goose leaves:leaf
    knives:knife wolves:wolf running:run lying:lie tying:tie buildings:building paintings:painting
"""
_KEPT = """
    ceiling clothes clothing glasses headphones jeans shorts skis news series building painting
    wedding evening morning
"""
_IRREGULAR = {
    **{pair.partition(":")[0]: pair.partition(":")[2] for pair in _ODD.split()},
    **{word: word for word in _KEPT.split()},
}
_STOP = """
    a an the this that these those some any another other each every both all its it it's he him
    his she her they them their there here we you your i me my who whom whose which what where when
    while as and or but nor not no so if than then too very just only also even still in on at by
    of to into onto from for with without within out off up down over under about around across
    through along against toward towards behind between among amongst during before after near be
    is are was were been being am has have had having do does did doing can could will would may
    might must shall should get gets getting got go goes going gone make makes making made take
    takes taking wear wears wearing use uses using look looks appear appears seem seems something
    someone various several own such like more most much many few lot lots how why whilst upon
    beside next
"""
STOP = frozenset(_STOP.split())
"""Words that name nothing to be seen; no term that comes of captions holds one."""


def words_of(text: str) -> list[str]:
    """The words of a text, lower case, as they are written."""
    return _WORD.findall(text.lower().replace("’", "'"))


def key_of(text: str) -> Key:
    """A term's words in their one form; empty where it has none."""
    return tuple(one_form(word) for word in words_of(text))


def phrases_of(text: str) -> Iterator[tuple[Key, str]]:
    """Every word and every pair of neighbours of a caption that may name something, as written."""
    words = words_of(text)
    for word in words:
        if _names(word):
            yield (one_form(word),), word
    for first, second in pairwise(words):
        if _names(first) and _names(second):
            yield (one_form(first), one_form(second)), f"{first} {second}"


@lru_cache(maxsize=2**16)
def one_form(word: str) -> str:
    """A word without its inflection."""
    word = word.removesuffix("'s")
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ing") and len(word) >= 6 and any(c in _VOWELS for c in word[:-3]):
        return _verb(word[:-3])
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zzes")):
        return word[:-2]
    if word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _names(word: str) -> bool:
    return word not in STOP and len(word) > 1 and not word.isdigit()


def _verb(stem: str) -> str:
    """The verb whose `-ing` form has this stem: rid → ride, swimm → swim, walk → walk."""
    if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz":
        return stem[:-1]
    before = stem[-2:-1]
    if stem[-1] in "cvuz" or (stem[-1] == "l" and before not in _VOWELS and before != "l"):
        return stem + "e"
    short = len(stem) >= 3 and before in _VOWELS and stem[-3] not in _VOWELS
    one_beat = sum(c in _VOWELS for c in stem) == 1
    return stem + "e" if short and one_beat and stem[-1] not in _VOWELS | {"w", "x"} else stem
