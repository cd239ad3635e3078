import pytest

from koine.concepts import Concept
from koine.finding import find_label, nothing_fits

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
    found = find_label(text, CONCEPTS, "vision")
    assert found is not None
    assert found.id == concept


@pytest.mark.parametrize("text", ["", "xyzzy", "snow", "do", "dogs"])
def test_what_no_label_fits_is_refused_with_the_nearest(text: str) -> None:
    assert find_label(text, CONCEPTS, "vision") is None
    assert "nearest labels are" in nothing_fits(text, CONCEPTS, None)
    assert "dog" in nothing_fits(text, CONCEPTS, None)


def test_an_unnamed_dictionary_says_so() -> None:
    assert "none of this dictionary's has a label" in nothing_fits("dog", [Concept(id=0)], None)
