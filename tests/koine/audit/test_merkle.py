"""RFC 6962's tree: known answers, and proofs of every size against the definition."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koine.audit.merkle import (
    Frontier,
    Tree,
    check_consistency,
    check_inclusion,
    leaf_hash,
    node_hash,
)

LEAVES = [leaf_hash(str(i).encode()) for i in range(70)]
# the reference vectors of the Certificate Transparency project
KNOWN = [bytes.fromhex(x) for x in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
KNOWN_ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
}


def defined_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return node_hash(defined_root(leaves[:k]), defined_root(leaves[k:]))


def frontier(size: int) -> Frontier:
    grown = Frontier()
    for leaf in LEAVES[:size]:
        grown.append(leaf)
    return grown


@pytest.mark.parametrize(("size", "root"), KNOWN_ROOTS.items())
def test_roots_are_the_reference_ones(size: int, root: str) -> None:
    hashes = [leaf_hash(leaf) for leaf in KNOWN[:size]]
    assert Tree(Frontier(), hashes).root().hex() == root


def test_frontier_and_tree_agree_with_the_definition() -> None:
    tree = Tree(Frontier(), LEAVES)
    for size in range(len(LEAVES) + 1):
        assert frontier(size).root() == tree.root(size) == defined_root(LEAVES[:size])


sizes = st.integers(1, len(LEAVES)).flatmap(
    lambda n: st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.just(n))
)


@given(sizes)
@settings(deadline=None, max_examples=200)
def test_proofs_hold_and_hold_for_nothing_else(case: tuple[int, int, int]) -> None:
    low, high, size = min(case[:2]), max(case[:2]), case[2]
    # a tree that has forgotten the first `low` leaves proves as well as one that has not
    tree = Tree(frontier(low), LEAVES[low:])
    root = defined_root(LEAVES[:size])
    proof = tree.inclusion(high, size)
    assert check_inclusion(LEAVES[high], high, size, proof, root)
    assert not check_inclusion(leaf_hash(b"other"), high, size, proof, root)
    assert not check_inclusion(LEAVES[high], high + 1, size, proof, root)
    assert not check_inclusion(LEAVES[high], high, size, [*proof, root], root)
    first = max(high, 1)
    before = defined_root(LEAVES[:first])
    consistency = tree.consistency(first, size)
    assert check_consistency(first, before, size, root, consistency)
    assert not check_consistency(first, leaf_hash(b"other"), size, root, consistency)
    assert not check_consistency(first, before, size, leaf_hash(b"other"), consistency)


def test_nodes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="not the frontier of 3"):
        Frontier(3, [LEAVES[0]])
    with pytest.raises(ValueError, match="outside 3 to 70"):
        Tree(frontier(3), LEAVES[3:]).inclusion(2, 70)
