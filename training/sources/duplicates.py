"""Find ids that occur twice, in 8 bytes an id; knows no source."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable

import numpy as np

from koine.errors import SourceError


class DuplicateCheck:
    """Remembers 64 bits of each id; two ids that share them are told apart by a second look."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def add(self, id: str) -> None:
        """Note an id."""
        self._hashes.append(_hash(id))

    def check(self, ids: Callable[[], Iterable[tuple[str, str]]]) -> None:
        """SourceError naming the first id that occurs twice.

        `ids` yields (id, where it stands) again; it is only called when there is a suspicion.
        """
        hashes_N = np.sort(np.frombuffer(self._hashes, np.uint64))
        repeated = set(hashes_N[1:][hashes_N[1:] == hashes_N[:-1]].tolist())
        if not repeated:
            return
        first: dict[str, str] = {}
        for id, where in ids():
            if _hash(id) not in repeated:
                continue
            if id in first:
                raise SourceError(
                    f"The id {id!r} occurs twice: {first[id]} and {where}. Ids must be unique;"
                    " remove one, or put all captions of an image into one row."
                )
            first[id] = where


def _hash(id: str) -> int:
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "little")
