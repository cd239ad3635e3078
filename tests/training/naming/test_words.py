"""Words in one form: inflections meet, other words stay apart."""

from __future__ import annotations

import pytest

from training.naming.words import key_of, one_form, phrases_of, words_of


@pytest.mark.parametrize(
    ("written", "form"),
    [
        *[("dogs", "dog"), ("boxes", "box"), ("puppies", "puppy"), ("women", "woman")],
        *[("grass", "grass"), ("bus", "bus"), ("tennis", "tennis"), ("shoes", "shoe")],
        *[("riding", "ride"), ("swimming", "swim"), ("walking", "walk"), ("eating", "eat")],
        *[("staring", "stare"), ("starring", "star"), ("dancing", "dance"), ("falling", "fall")],
        *[("juggling", "juggle"), ("skiing", "ski"), ("running", "run"), ("rides", "ride")],
        *[("string", "string"), ("wing", "wing"), ("building", "building"), ("dog's", "dog")],
    ],
)
def test_inflections_meet(written: str, form: str) -> None:
    assert one_form(written) == form


def test_words_are_found_in_any_script_and_punctuation() -> None:
    assert words_of("A T-shirt, the dog’s; Zürich… 2 犬 !") == [
        *("a", "t-shirt", "the", "dog's", "zürich", "2", "犬"),
    ]
    assert key_of("Fire Engines") == ("fire", "engine")
    assert key_of(" …!") == ()


def test_phrases_hold_no_word_that_names_nothing() -> None:
    found = dict(phrases_of("A black dog jumps over the red bars"))
    assert list(found.values()) == [
        *("black", "dog", "jumps", "red", "bars"),
        *("black dog", "dog jumps", "red bars"),
    ]
