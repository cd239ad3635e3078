import numpy as np
import pytest

from koine.codes import PAD
from koine.concepts import Concept
from koine.errors import UnknownConceptError
from koine.finding import find_concept, find_in_codes

CONCEPTS = [
    Concept(id=0, label="dog", status="proposed", rate={"vision": 0.1}),
    Concept(id=1, label="Dog", status="verified", rate={"vision": 0.2}),
    Concept(id=2, label="brown dog", status="proposed"),
    Concept(id=3, label="snow", status="rejected"),
    Concept(id=4),
]


@pytest.mark.parametrize(
    ("text", "concept"),
    [
        ("DOG ", 1),  # of two, the one that the stream activates more often
        ("brown  dog", 2),
        ("a brown dog in the park", 2),  # the longest label wins
        ("a dog", 1),
    ],
)
def test_labels_are_found(text: str, concept: int) -> None:
    assert find_concept(text, CONCEPTS, "vision").id == concept


@pytest.mark.parametrize("text", ["", "xyzzy", "snow", "do", "dogs"])
def test_what_no_label_fits_is_refused_with_the_nearest(text: str) -> None:
    with pytest.raises(UnknownConceptError, match="nearest labels are .*dog"):
        find_concept(text, CONCEPTS, "vision")


def test_an_unnamed_dictionary_says_so() -> None:
    with pytest.raises(UnknownConceptError, match="none of this dictionary's has a label"):
        find_concept("dog", [Concept(id=0)], "vision")


def codes(*values: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
    indices = [concept for concept, _ in values] + [PAD]
    return np.array(indices, np.int32), np.array([v for _, v in values] + [0], np.float32)


def test_a_text_means_its_strongest_concept_that_the_stream_activates() -> None:
    # concepts 2 to 4 are never active in the stream
    found = find_in_codes("hound", CONCEPTS, "vision", codes((4, 0.9), (1, 0.5), (0, 0.4)), 0.3)
    assert (found.concept.id, found.by) == (1, "codes")
    assert found.value == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("given", "floor", "words"),
    [
        (
            codes((1, 0.5)),
            0.5,
            r"code is 0.5; nonsense reaches 0.5\); the nearest labels are brown dog, dog",
        ),
        (codes((4, 0.9)), 0.5, "code is 0;"),
        (codes(), 0.5, "code is 0;"),
        (codes((1, 0.5)), None, "^no concept fits 'hound'; the nearest"),
    ],
)
def test_codes_like_those_of_nonsense_mean_no_concept(
    given: tuple[np.ndarray, np.ndarray], floor: float | None, words: str
) -> None:
    with pytest.raises(UnknownConceptError, match=words):
        find_in_codes("hound", CONCEPTS, "vision", given, floor)
