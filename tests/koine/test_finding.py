import pytest

from koine.concepts import Concept
from koine.errors import UnknownConceptError
from koine.finding import find_concept

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
