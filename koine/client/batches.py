"""Any number of inputs to requests within the service's limits; sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from koine.client.calls import ItemsCall, Prepared, ResultItem, failed
from koine.client.inputs import Resolved, as_item, checked_id, resolve
from koine.client.results import Info, ItemError
from koine.errors import InputError, TooLargeError

ENVELOPE_BYTES = 4096
"""Room for everything but the items."""
ENOUGH_BYTES = 16 * 2**20
"""A request this large gains nothing by growing."""


@runtime_checkable
class Wire(Protocol):
    """One transport's format, as far as requests are planned by it."""

    @property
    def has_info(self) -> bool:
        """Whether it can ask for the service's limits."""
        ...

    def prepare(self, item: Resolved) -> Prepared:
        """The item as it travels."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may hold."""

    items: int
    item_bytes: int
    """Of an item that travels alone."""
    batch_bytes: int
    """Of items that travel together."""

    @staticmethod
    def of(info: Info, concurrency: int) -> Limits:
        """What the service takes, so that `concurrency` requests at once fit into it too."""
        limits = info.limits
        items = min(limits["items"], max(1, limits["queue_items"] // concurrency))
        at_once = limits["inflight_bytes"] // (2 * concurrency)
        body = int(limits["body_bytes"]) - ENVELOPE_BYTES
        together = min(body, ENOUGH_BYTES, at_once)
        return Limits(items=int(items), item_bytes=body, batch_bytes=int(together))

    def at_most(self, items: int | None) -> Limits:
        """The same with a smaller number of items."""
        return self if items is None else replace(self, items=min(self.items, items))


@dataclass(slots=True)
class Batch:
    """What goes into one request, and the results of items that do not."""

    slots: list[Prepared | ResultItem] = field(default_factory=list["Prepared | ResultItem"])
    size: int = 0
    count: int = 0

    @property
    def items(self) -> tuple[Prepared, ...]:
        """Those to be sent."""
        return tuple(slot for slot in self.slots if isinstance(slot, Prepared))

    def filled(self, results: Iterable[ResultItem]) -> tuple[ResultItem, ...]:
        """A result for each slot, given those of `items`."""
        sent = iter(results)
        return tuple(next(sent) if isinstance(slot, Prepared) else slot for slot in self.slots)


class Packer:
    """Packs inputs in their order; `add` and `rest` give the batches that are full."""

    def __init__(self, call: ItemsCall, prepare: Callable[[Resolved], Prepared], limits: Limits):
        self._call, self._prepare, self._limits = call, prepare, limits
        self._batch = Batch()
        self._seen = 0

    def add(self, inputs: Iterable[object]) -> Iterator[Batch]:
        """Takes inputs; gives a batch whenever one is full."""
        limits = self._limits
        for given in inputs:
            slot = self._slot(given)
            if isinstance(slot, Prepared):
                size = slot.size + 1  # a comma
                if self._batch.count and self._batch.size + size > limits.batch_bytes:
                    yield from self.rest()
                self._batch.size += size
            self._batch.slots.append(slot)
            self._batch.count += 1
            if self._batch.count >= limits.items:
                yield from self.rest()

    def rest(self) -> Iterator[Batch]:
        """What has not been given yet."""
        batch, self._batch = self._batch, Batch()
        if batch.slots:
            yield batch

    def _slot(self, given: object) -> Prepared | ResultItem:
        """The item as it travels; the result of one that cannot be sent is its error."""
        id_ = position = str(self._seen)
        self._seen += 1
        try:
            item = as_item(given)
            id_ = checked_id(item.id, position)
            prepared = self._prepare(resolve(item, id_))
            if prepared.size > self._limits.item_bytes:
                raise TooLargeError(
                    f"the item takes {prepared.size} bytes, a request at most "
                    f"{self._limits.item_bytes}; make the image smaller"
                )
            return prepared
        except InputError as error:
            return failed(self._call, id_, ItemError.of(error))
