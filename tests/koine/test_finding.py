import pytest

from koine.artifact import Artifact
from koine.concepts import Concept
from koine.encoder import ConceptEncoder
from koine.errors import UnknownConceptError
from koine.finding import Finder, find_label, nonsense, nothing_fits
from koine.sessions import CPU


def test_the_text_stream_reads_what_no_label_fits(localising_artifact: Artifact) -> None:
    encoder = ConceptEncoder(localising_artifact, providers=[CPU])
    finder = Finder(encoder)
    texts = ["red circle", "a cat", "cat on grass", "photo circle", "square", "a photo"]
    acts = encoder.activations("tiny_text", encoder.tokenize("tiny_text", texts))
    codes = encoder.encode({"tiny_text": acts})["tiny_text"]
    best = codes.values_NK[:, 0].argmax()
    concepts = [Concept(id=n) for n in range(64)]
    found = finder.find(texts[best], concepts, "tiny_a")
    assert (found.by, found.stream) == ("text_stream", "tiny_text")
    assert found.concept.id == codes.indices_NK[best, 0]
    assert found.floor is not None
    assert found.score > found.floor
    with pytest.raises(UnknownConceptError, match="nonsense reaches"):
        finder.find("xyzzy", concepts, "tiny_a")


def test_concepts_that_the_image_stream_never_activates_are_passed_over(
    localising_artifact: Artifact,
) -> None:
    finder = Finder(ConceptEncoder(localising_artifact, providers=[CPU]))
    silent = [Concept(id=n, rate={"tiny_a": 0.0}) for n in range(64)]
    with pytest.raises(UnknownConceptError, match="activates nothing"):
        finder.find("a cat", silent, "tiny_a")


def test_nonsense_is_the_same_each_time_and_another_by_another_seed() -> None:
    assert nonsense(64) == nonsense(64)
    assert not set(nonsense(64)) & set(nonsense(64, seed=1))


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
