"""Terms: read from files and captions, found in items, refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from koine.errors import DataError
from training.activations.rows import Row
from training.naming.vocabulary import (
    BUILT_IN,
    PREFERENCE,
    collect,
    locate,
    read_terms,
    vocabulary_hash,
)

ROWS = [
    Row("0", ("Two dogs run", "a fire engine"), ("animal",), "train"),
    Row("1", ("a DOG and a quokka",), (), "train"),
    Row("2", ("quokkas on grass", "fire"), ("animal", "Fire Engine"), "train"),
    Row("3", (), (), "train"),
]


def terms_of(own: tuple[str, ...] = (), labels: bool = True, min_items: int = 2) -> dict[str, str]:
    found = collect(ROWS, own, labels=labels, min_items=min_items, max_terms=100)
    return {term.text: term.origin for term in found}


def test_the_built_in_list_is_large_and_clean() -> None:
    terms = read_terms(BUILT_IN)
    assert 1000 <= len(terms) <= 2000
    assert all(term == term.lower() for term in terms)


def test_terms_come_by_line_and_comma_once_each(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes(
        "\ufeffForklift, pallet  jack # ours\n\n# none\nforklifts\nGabelstapler\n".encode()
    )
    assert read_terms(path) == ["Forklift", "pallet jack", "Gabelstapler"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no term: write one a line"),
        (b"# only\n , ,\n", "holds no term: write one a line"),
        (b"\xff\xfe\x00d", "is no UTF-8 text: save it as UTF-8"),
        (b"dog\n" + b"x" * 81, "line 2: a term has at most 80 characters, got 81"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_terms(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_terms(tmp_path / "none.txt")


def test_own_terms_go_first_and_frequent_words_come_along() -> None:
    found = terms_of(own=("Dogs", "fire engine"))
    assert found["Dogs"] == found["fire engine"] == "own"
    assert "dog" not in found
    assert found["quokka"] == "caption"
    assert found["animal"] == "built-in"
    assert "zzz" not in found
    assert PREFERENCE["own"] > PREFERENCE["built-in"] > PREFERENCE["caption"]


def test_rare_words_and_unwanted_labels_are_no_terms() -> None:
    assert "quokka" not in terms_of(min_items=3)
    rows = [ROWS[0]._replace(labels=("quoll",))]
    assert "quoll" not in [
        t.text for t in collect(rows, (), labels=False, min_items=1, max_terms=9)
    ]
    assert "quoll" in [t.text for t in collect(rows, (), labels=True, min_items=1, max_terms=9)]


def test_items_have_the_terms_of_their_captions_and_labels() -> None:
    terms = collect(ROWS, ("dog", "fire engine", "running"), labels=True, min_items=2, max_terms=9)
    column = {term.text: number for number, term in enumerate(terms)}
    told = locate(ROWS, terms, labels=True).toarray()
    shown = locate(ROWS, terms, labels=False).toarray()
    assert told[:, column["dog"]].tolist() == [1, 1, 0, 0]
    assert told[:, column["fire engine"]].tolist() == [1, 0, 1, 0]
    assert shown[:, column["fire engine"]].tolist() == [1, 0, 0, 0]
    assert told[:, column["running"]].tolist() == [1, 0, 0, 0]
    assert told[:, column["animal"]].tolist() == [1, 0, 1, 0]
    assert set(told.ravel().tolist()) == {0, 1}


def test_the_hash_follows_own_terms() -> None:
    assert vocabulary_hash(()) == vocabulary_hash(())
    assert vocabulary_hash(("a",)) != vocabulary_hash(())
