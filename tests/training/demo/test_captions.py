"""Captions: each attribute, object and relation that one mentions is true of its scene."""

from __future__ import annotations

import re

import pytest

from training.demo.corpus import Item, make_item
from training.demo.scenes import SceneObject, relations
from training.demo.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    GROUPS,
    LABELS,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
)

MEANING = {word: label for group in GROUPS.values() for label in group for word in group[label]}
PHRASES = re.compile(
    r"(?<![\w-])("
    + "|".join(sorted(map(re.escape, MEANING), key=len, reverse=True))
    + r")(?![\w-])"
)
NOUNS = {word: shape for shape, names in SHAPES.items() for word in names} | {"thing": None}
NAMED = re.compile(
    r"\ban? (?!single|pair|picture)((?:[\w-]+ ){0,3}?)("
    + "|".join(sorted(map(re.escape, NOUNS), key=len))
    + r")\b"
)
ADJECTIVES = {
    word: (kind, label)
    for kind, group in (("colour", COLOURS), ("texture", TEXTURES), ("size", SIZES))
    for label, names in group.items()
    for word in names
}


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return [make_item(12, index) for index in range(700)]


def _mentioned(caption: str) -> set[str]:
    """Labels whose words stand in the caption."""
    return {MEANING[phrase] for phrase in PHRASES.findall(caption)}


def _fits(thing: SceneObject, adjectives: str, noun: str) -> bool:
    said = [ADJECTIVES[word] for word in adjectives.split()]
    return all(getattr(thing, kind) == label for kind, label in said) and (
        NOUNS[noun] in (None, thing.shape)
    )


def test_every_word_means_one_label():
    words = [word for group in GROUPS.values() for names in group.values() for word in names]
    assert len(words) == len(set(words))


def test_all_that_a_caption_mentions_is_among_the_labels(items: list[Item]):
    for item in items:
        for caption in item.captions:
            assert _mentioned(caption) <= set(item.labels), (caption, item.labels)


def test_every_named_object_is_in_the_scene_with_all_its_attributes(items: list[Item]):
    named = 0
    for item in items:
        for caption in item.captions:
            for adjectives, noun in NAMED.findall(caption):
                named += 1
                assert any(_fits(o, adjectives, noun) for o in item.scene.objects), caption
    assert named > 3000


def test_relations_hold_in_the_direction_said(items: list[Item]):
    said = re.compile(rf"^{NAMED.pattern} (.+?) {NAMED.pattern}")
    seen: set[str] = set()
    for item in items:
        for caption in item.captions:
            match = said.search(caption)
            if match is None or match[3] not in MEANING or MEANING[match[3]] not in RELATIONS:
                continue
            seen.add(match[3])
            assert any(
                _fits(a, match[1], match[2])
                and _fits(b, match[4], match[5])
                and _holds(a, b, match[3])
                for a in item.scene.objects
                for b in item.scene.objects
                if a is not b
            ), (caption, item.scene)
    assert seen == {word for names in RELATIONS.values() for word in names}


def _holds(a: SceneObject, b: SceneObject, phrase: str) -> bool:
    if MEANING[phrase] not in relations(a, b):
        return False
    if "left" in phrase or "right" in phrase:
        return (a.x < b.x) == ("left" in phrase)
    if phrase in ("above", "over", "below", "under"):
        return (a.y < b.y) == (phrase in ("above", "over"))
    return phrase not in RELATIONS["inside"] or a.radius < b.radius


def test_the_first_caption_names_every_object_and_the_background(items: list[Item]):
    for item in items:
        first = item.captions[0]
        shapes = [NOUNS[noun] for _, noun in NAMED.findall(first)]
        assert shapes == [thing.shape for thing in item.scene.objects], first
        assert any(first.endswith(phrase) for phrase in BACKGROUNDS[item.scene.background])


def test_captions_are_varied_and_mention_all_concepts(items: list[Item]):
    captions = [caption for item in items for caption in item.captions]
    assert len(set(captions)) > 0.8 * len(captions)
    assert set().union(*map(_mentioned, captions)) == set(LABELS)
