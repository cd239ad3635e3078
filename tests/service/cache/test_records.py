"""Records: bit for bit there and back, and nothing damaged is ever believed."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cache.records import VERSION, decode, encode
from service.jobs import Row
from tests.service.cache.codes import codes, key, same

floats = st.floats(width=32)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    k = draw(st.integers(0, 9))
    indices = draw(st.lists(st.integers(-1, 2**31 - 1), min_size=k, max_size=k))
    values = draw(st.lists(floats, min_size=k, max_size=k))
    fvu = draw(floats)
    return Row(np.array(indices, np.int32), np.array(values, np.float32), fvu)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), rows(), max_size=4))
def test_codes_come_back_bit_for_bit(answer: dict[str, Row]) -> None:
    back = decode(key(1), encode(key(1), answer))
    assert back is not None
    assert same(back, answer)
    for row in back.values():
        assert row.indices_K.dtype == np.int32
        assert row.values_K.dtype == np.float32


def test_not_a_number_keeps_its_bits() -> None:
    values_K = np.array([0x7FC00001, 0xFFC12345, 0x80000000, 1], np.uint32).view(np.float32)
    answer = {"s": Row(np.arange(4, dtype=np.int32), values_K, float("inf"))}
    back = decode(key(1), encode(key(1), answer))
    assert back is not None
    assert back["s"].values_K.tobytes() == values_K.tobytes()


@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    record = bytearray(encode(key(1), codes(1)))
    at = data.draw(st.integers(0, len(record) - 1))
    record[at] ^= data.draw(st.integers(1, 255))
    assert decode(key(1), bytes(record)) is None


def test_a_part_of_a_record_is_no_record() -> None:
    record = encode(key(1), codes(1))
    for length in range(len(record)):
        assert decode(key(1), record[:length]) is None
    assert decode(key(1), record + b"\0") is None


def test_a_record_of_another_key_is_refused() -> None:
    assert decode(key(2), encode(key(1), codes(1))) is None


@given(st.binary())
def test_bytes_with_a_right_digest_that_no_codes_made(body: bytes) -> None:
    digest = hashlib.blake2b(body, digest_size=16, key=key(1)).digest()
    back = decode(key(1), VERSION + digest + body)
    if back is not None:  # then they are what codes make
        assert encode(key(1), back) == VERSION + digest + body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\1",
        b"\1\0",
        b"\1\0" + b"\0\0" + b"\xff\xff\xff\xff" + b"\0" * 4,  # k of 4 billion
        b"\1\0" + b"\1\0" + b"\0" * 8 + b"\xff",  # a name that is no UTF-8
        b"\2\0" + (b"\1\0" + b"\0" * 8 + b"s") * 2,  # a stream twice
        b"\0\0\0",
    ],
)
def test_bodies_that_lie_about_their_lengths(body: bytes) -> None:
    digest = hashlib.blake2b(body, digest_size=16, key=key(1)).digest()
    assert decode(key(1), VERSION + digest + body) is None


def test_another_version_is_a_miss() -> None:
    record = encode(key(1), codes(1))
    assert decode(key(1), b"KOC2" + record[4:]) is None
