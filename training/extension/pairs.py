"""Which items of a store pair a new stream with existing ones; fits nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from koine.errors import DataError
from koine.streams import StreamSpec
from training.activations.store import ActivationStore
from training.extension.config import MIN_PAIRS, ExtendConfig

_DRAW = 11  # beside the draws of schedule.py


class Pairs(NamedTuple):
    """Rows of the store, disjoint, ascending."""

    fit: Int64[np.ndarray, "F"]
    choose: Int64[np.ndarray, "V"]

    @property
    def count(self) -> int:
        """All of them."""
        return len(self.fit) + len(self.choose)


def check_streams(
    existing: Sequence[StreamSpec], store: ActivationStore, stream: str
) -> tuple[StreamSpec, ...]:
    """The extended dictionary's streams, in its order.

    Raises DataError where the name is taken, the store lacks the stream or shares none with the
    dictionary, or a shared stream is of another width or encoder.
    """
    there = {spec.name: spec for spec in store.streams}
    if any(spec.name == stream for spec in existing):
        raise DataError(
            f"the dictionary has a stream `{stream}` already: give the new one another name, or "
            "extend the run that it joined"
        )
    if stream not in there:
        raise DataError(
            f"`{store.path}` has no stream `{stream}`: it has {', '.join(there)}; "
            "extract or import the new encoder's activations first"
        )
    shared = [spec for spec in existing if spec.name in there]
    if not shared:
        raise DataError(
            f"`{store.path}` has none of the dictionary's streams "
            f"({', '.join(spec.name for spec in existing)}), only {', '.join(there)}: a stream "
            "joins by items that an existing one describes too"
        )
    for spec in shared:
        _check_same(spec, there[spec.name])
    return (*existing, there[stream])


def _check_same(known: StreamSpec, found: StreamSpec) -> None:
    if known.d_in != found.d_in:
        raise DataError(
            f"stream `{known.name}` is {found.d_in} wide in the store, {known.d_in} in the "
            "dictionary: the store's activations are not of the dictionary's encoder"
        )
    if known.encoder and found.encoder and known.encoder != found.encoder:
        raise DataError(
            f"stream `{known.name}` comes from {found.encoder} in the store, from "
            f"{known.encoder} in the dictionary: extract it with the dictionary's encoder"
        )


def draw_pairs(store: ActivationStore, config: ExtendConfig) -> Pairs:
    """The pairs to fit on, from `train`, and to choose on, from `val` as far as it has enough.

    `store` shows the extended dictionary's streams. Raises DataError where there are too few.
    """
    train, val = (_paired(store, store.split(split), config.stream) for split in ("train", "val"))
    rng = np.random.default_rng((config.seed, _DRAW))
    train, val = rng.permutation(train), rng.permutation(val)
    total = len(train) + len(val) if config.pairs is None else config.pairs
    if total > len(train) + len(val) or total < MIN_PAIRS:
        raise DataError(
            f"{len(train) + len(val)} training and validation items of `{store.path}` have stream "
            f"`{config.stream}` together with one of the dictionary's; {max(total, MIN_PAIRS)} are "
            "needed: give a smaller `--pairs`, or pair more items by their ids"
        )
    wanted = round(config.choose * total)
    kept_out = val[: max(wanted, total - len(train))]
    rest = wanted - len(kept_out) if len(kept_out) < wanted else 0
    kept_out, train = np.concatenate([kept_out, train[:rest]]), train[rest:]
    fitted = train[: total - len(kept_out)]
    return Pairs(np.sort(fitted), np.sort(kept_out))


def _paired(store: ActivationStore, rows_N: np.ndarray, stream: str) -> np.ndarray:
    present_NS = store.present(rows_N)
    column = [spec.name for spec in store.streams].index(stream)
    others_N = np.delete(present_NS, column, axis=1).any(1)
    return rows_N[present_NS[:, column] & others_N]
