"""RFC 6962's Merkle tree over hashes; knows neither entries nor files.

`Frontier` grows a tree while it keeps one hash per set bit of its size; `Tree` holds all nodes and
makes proofs; the `check_` functions need only hashes. The sequence and form of the proofs are
those of RFC 9162, sections 2.1.3 and 2.1.4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

HASH = 32
"""Bytes of a SHA-256."""
ZERO = bytes(HASH)


def leaf_hash(leaf: bytes) -> bytes:
    """RFC 6962: SHA-256(0x00 || leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """A growing tree, of which only the roots of its perfect subtrees are kept, largest first."""

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        """Goes on from `nodes`. Raises `ValueError` where they do not fit `size`."""
        self.size = size
        self.nodes = list(nodes)
        if len(self.nodes) != size.bit_count() or any(len(node) != HASH for node in self.nodes):
            raise ValueError(f"{len(self.nodes)} nodes are not the frontier of {size} leaves")

    def append(self, leaf: bytes) -> None:
        """Adds a leaf's hash."""
        self.extend([leaf])

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Adds hashes of leaves, in order."""
        nodes = self.nodes
        for leaf in leaves:
            size = self.size
            while size & 1:
                leaf = node_hash(nodes.pop(), leaf)
                size >>= 1
            nodes.append(leaf)
            self.size += 1

    def root(self) -> bytes:
        """Root of the tree; SHA-256 of nothing for an empty one."""
        if not self.nodes:
            return hashlib.sha256().digest()
        root = self.nodes[-1]
        for left in reversed(self.nodes[:-1]):
            root = node_hash(left, root)
        return root

    def copy(self) -> Frontier:
        """One that grows apart from this."""
        return Frontier(self.size, self.nodes)


class Tree:
    """All nodes over the leaves that follow `base`, 64 bytes a leaf."""

    def __init__(self, base: Frontier, leaves: Iterable[bytes]) -> None:
        self.base = base.size
        self._levels = [bytearray(b"".join(leaves))]
        self.size = base.size + len(self._levels[0]) // HASH
        roots = list(base.nodes)
        for level in range(self.size.bit_length()):
            nodes = self._levels[level]
            if base.size >> level & 1:
                nodes[:0] = roots.pop()
            pairs = len(nodes) // (2 * HASH)
            above = (
                hashlib.sha256(b"\x01" + nodes[at : at + 2 * HASH]).digest()
                for at in range(0, pairs * 2 * HASH, 2 * HASH)
            )
            self._levels.append(bytearray(b"".join(above)))

    def root(self, size: int | None = None) -> bytes:
        """Root over the first `size` leaves, all by default."""
        size = self.size if size is None else size
        return self._root(0, size) if size else hashlib.sha256().digest()

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Proof that leaf `index` is in the tree of `size` leaves, from the leaf up."""
        self._known(index, size)
        proof: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                proof.append(self._root(middle, end))
                end = middle
            else:
                proof.append(self._root(start, middle))
                start = middle
        return proof[::-1]

    def consistency(self, first: int, size: int) -> list[bytes]:
        """Proof that the tree of `size` leaves begins with that of `first`."""
        self._known(first, size)
        proof: list[bytes] = []
        start, end, whole = 0, size, True
        while first < end:
            middle = start + _split(end - start)
            if first <= middle:
                proof.append(self._root(middle, end))
                end = middle
            else:
                proof.append(self._root(start, middle))
                start, whole = middle, False
        return (proof if whole else [*proof, self._root(start, end)])[::-1]

    def span(self, first: int, last: int, size: int) -> list[bytes]:
        """Proof for leaves `first` up to `last` at once: the nodes beside them, left to right."""
        self._known(first, size)
        proof: list[bytes] = []
        _walk(first, last, size, lambda start, end: proof.append(self._root(start, end)))
        return proof

    def _known(self, index: int, size: int) -> None:
        if not self.base <= index <= size <= self.size:
            raise ValueError(f"{index} of {size} lies outside {self.base} to {self.size}")

    def _root(self, start: int, end: int) -> bytes:
        count = end - start
        if count & (count - 1) == 0 and start % count == 0:
            level = count.bit_length() - 1
            held = (self.base >> level) - (self.base >> level & 1)
            at = (start // count - held) * HASH
            if 0 <= at < len(self._levels[level]):
                return bytes(self._levels[level][at : at + HASH])
        middle = start + _split(count)
        return node_hash(self._root(start, middle), self._root(middle, end))


def check_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether the leaf's hash stands at `index` of the tree of `size` leaves (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, computed = index, size - 1, leaf
    for node in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            computed = node_hash(node, computed)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            computed = node_hash(computed, node)
        at, last = at >> 1, last >> 1
    return last == 0 and computed == root


def check_consistency(
    first: int, first_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the tree of `size` begins with that of `first` (RFC 9162 2.1.4.2)."""
    if not 0 < first <= size:
        return False
    if first == size:
        return not proof and first_root == root
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        return False
    at, last = first - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, node)
        at, last = at >> 1, last >> 1
    return last == 0 and old == first_root and new == root


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _walk(first: int, last: int, size: int, beside: Callable[[int, int], object]) -> None:
    """Calls `beside` for each largest subtree that holds none of the leaves `first` to `last`."""
    pending = [(0, size)]
    while pending:
        start, end = pending.pop()
        if end <= first or start >= last:
            beside(start, end)
        elif not (first <= start and end <= last):
            middle = start + _split(end - start)
            pending += [(middle, end), (start, middle)]
