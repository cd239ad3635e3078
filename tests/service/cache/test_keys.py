"""Keys: one for each content, dictionary, streams and mode; the same however content came."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koine.errors import InputError
from koine.types import Mode
from service.cache import item_key
from service.cache import keys as keys_module
from service.cache.keys import _known
from service.contents import contents_of
from service.jobs import Item

TEXT = float(np.frombuffer(b"text", "<f4")[0])


class Asked(NamedTuple):
    """All that an answer depends on, in plain values."""

    image: bytes | None
    text: str | None
    activations: dict[str, list[float]]
    digest: str
    streams: list[str] | None
    mode: Mode

    def key(self, id: str = "0") -> bytes | None:
        acts = {name: np.array(x, np.float64) for name, x in self.activations.items()}
        item = Item(id=id, image=self.image, text=self.text, activations=acts)
        return item_key(contents_of(item), self.digest, self.streams, self.mode)

    def plain(self) -> tuple[object, ...]:
        """Equal where the answers must be."""
        streams = None if self.streams is None else sorted(set(self.streams))
        acts = sorted((n, np.array(x, "<f4").tobytes()) for n, x in self.activations.items())
        return (self.image, self.text, acts, self.digest, streams, self.mode)


# small alphabets: pieces that could be mistaken for another's when they are put together
short = st.text("ab\0", max_size=3)
asked = st.builds(
    Asked,
    image=st.none() | st.binary(max_size=3),
    text=st.none() | short | st.text(max_size=3),
    activations=st.dictionaries(short, st.lists(st.sampled_from([0.0, -0.0, 1.5]), max_size=2)),
    digest=short,
    streams=st.none() | st.lists(short, max_size=3),
    mode=st.sampled_from(["independent", "joint"]),
)


@given(asked, asked)
def test_keys_are_equal_exactly_where_everything_is(one: Asked, other: Asked) -> None:
    assert (one.key() == other.key()) == (one.plain() == other.plain())


def test_a_thousand_near_items_have_a_thousand_keys() -> None:
    pieces: Sequence[str | None] = (None, "", "a", "aa", "a\0", "\0a")
    found = {
        Asked(None if image is None else image.encode(), text, acts, digest, streams, mode).key()
        for image in pieces
        for text in pieces
        for digest in ("", "a")
        for streams in (None, [], ["a"], ["aa"], ["a", "aa"])
        for acts in ({}, {"a": []}, {"a": [1.0]})
        for mode in ("independent", "joint")
    }
    assert None not in found
    assert len(found) == 6 * 6 * 2 * 5 * 3 * 2


EMPTY = Asked(None, None, {}, "d", None, "joint")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # where one piece ends and the next begins
        (EMPTY._replace(streams=["a", "bc"]), EMPTY._replace(streams=["ab", "c"])),
        (EMPTY._replace(image=b"a\1b"), EMPTY._replace(image=b"a", text="b")),
        (EMPTY._replace(text="a"), EMPTY._replace(image=b"a")),
        (EMPTY._replace(text=""), EMPTY),
        (EMPTY._replace(streams=[]), EMPTY),
        # numbers that are another stream's name and numbers: 4 bytes of text are one float32
        (
            EMPTY._replace(activations={"a": [TEXT], "b": []}),
            EMPTY._replace(activations={"a": [], "textsb": []}),
        ),
        (
            EMPTY._replace(activations={"a": [TEXT]}),
            EMPTY._replace(activations={"atext": []}),
        ),
        (
            EMPTY._replace(activations={"a": [TEXT]}),
            EMPTY._replace(activations={"a": [], "text": []}),
        ),
        # counts: a list's end and what stands after it
        (EMPTY._replace(streams=["a"], image=b"b"), EMPTY._replace(streams=["a\1b"])),
    ],
)
def test_pieces_do_not_run_into_each_other(one: Asked, other: Asked) -> None:
    assert one.key() != other.key()


def test_what_is_digested_can_be_read_back_in_one_way_only() -> None:
    lists: list[list[bytes] | None] = [None, [], [b""], [b"", b""], [b"\0"], [b"a"], [b"a", b""]]
    # a list that ends in a shorter one's bytes: only its count tells where it ends
    lists += [[*known, b"x"] for known in lists if known is not None]
    written = [b"".join(_known(parts)) for parts in lists]
    for one in written:
        assert [other for other in written if other.startswith(one)] == [one]


@given(st.binary(max_size=200), st.integers(1, 20))
def test_an_image_has_one_key_however_it_came(image: bytes, width: int) -> None:
    text = base64.b64encode(image).decode()
    lines = "\r\n".join(text[at : at + width] for at in range(0, len(text), width))
    expected = Asked(image, None, {}, "d", None, "joint").key()
    for form in (text, lines):
        assert item_key(contents_of(Item(id="0", image=form)), "d", None, "joint") == expected


def test_an_image_is_not_its_base64() -> None:
    text = base64.b64encode(b"image")
    one = item_key(contents_of(Item(id="0", image=text)), "d", None, "joint")
    assert one != item_key(contents_of(Item(id="0", image=text.decode())), "d", None, "joint")


def test_activations_have_one_key_in_any_precision() -> None:
    forms = [np.array([1.5, -2], kind) for kind in ("f4", "f8", ">f8")]
    forms.append(np.array([1.5 + 1e-12, -2]))  # the same as float32, which is what is encoded
    found = {
        item_key(contents_of(Item(id="0", activations={"a": x})), "d", None, "joint") for x in forms
    }
    assert len(found) == 1


def test_what_an_answer_does_not_depend_on_is_left_out() -> None:
    one = Asked(b"i", "t", {"a": [1.0], "b": [2.0]}, "d", ["x", "y"], "joint")
    other = one._replace(activations={"b": [2.0], "a": [1.0]}, streams=["y", "x", "y"])
    assert one.key("first") == other.key("second")


@pytest.mark.parametrize(
    "item",
    [
        Item(id="0", text="a", error=InputError("bad")),
        Item(id="0", image="no base64!"),
        Item(id="0", image="aGk"),  # no padding
        Item(id="0", image="https://example.org/a.png"),
        Item(id="0", image="\ud800"),
    ],
)
def test_what_cannot_be_read_has_no_key(item: Item) -> None:
    assert item_key(contents_of(item), "d", None, "joint") is None


def test_half_a_surrogate_pair_has_a_key() -> None:
    assert item_key(contents_of(Item(id="0", text="\ud800")), "d", None, "joint") is not None


def test_another_koine_has_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Asked(b"i", None, {}, "d", None, "joint").key()
    monkeypatch.setattr(keys_module.koine, "__version__", "0.0.0")
    release = Asked(b"i", None, {}, "d", None, "joint").key()
    monkeypatch.setattr(keys_module, "VERSION", b"KOC0")
    assert len({before, release, Asked(b"i", None, {}, "d", None, "joint").key()}) == 3
