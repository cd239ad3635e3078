"""What threads and event loops share, as generators: limits, splitting; opens no connection.

Every generator yields `Send` and `Wait` steps (`retry.py`) for a driver to carry out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from koine.client.batches import Batch, Limits, Packer, Wire
from koine.client.calls import (
    Call,
    Encode,
    EncodeOptions,
    GetInfo,
    GetReady,
    ItemsCall,
    Part,
    ResultItem,
    Seconds,
    failed,
)
from koine.client.config import Config, check_names
from koine.client.errors import Failure
from koine.client.results import Info, ItemError, Timings
from koine.client.retry import Deadline, Policy, Send, Steps, attempts
from koine.errors import ClientError, DeadlineError, ForbiddenError, TooLargeError
from koine.types import Mode

UNKNOWN = Limits(items=64, item_bytes=64 * 2**20, batch_bytes=4 * 2**20 - 4096)
"""Where the service cannot be asked: gRPC's own limit of messages, unless an item needs more."""


class Engine:
    """The state of one client: what it knows of the service, and its retry budget."""

    def __init__(self, config: Config, wire: Wire) -> None:
        self.config, self.wire = config, wire
        self.policy = Policy(config.retries)
        self._infos: dict[str | None, Info] = {}

    def deadline(self, timeout_s: Seconds | None) -> Deadline:
        """The end of a call that starts now. Raises `ClientError` for a time that is none."""
        seconds = self.config.timeout_s if timeout_s is None else timeout_s
        if not seconds > 0:
            raise ClientError(f"`timeout` must be seconds above 0, got {seconds}")
        return Deadline(float(seconds))

    def run(self, call: Call, deadline: Deadline) -> Steps:
        """The answer to a call without items."""
        if isinstance(call, GetInfo) and not self.wire.has_info:
            raise ClientError("the gRPC API has no `info`; ask the service's HTTP port")
        return (yield from attempts(call, self.policy, deadline))

    def ready(self, deadline: Deadline) -> Steps:
        """Whether the service is ready, from one try."""
        outcome = yield Send(GetReady(), deadline.left_s)
        if not isinstance(outcome, Failure):
            return True
        if outcome.retry or isinstance(outcome.error, DeadlineError):
            return False
        raise outcome.error

    def begin(self, call: ItemsCall, deadline: Deadline) -> Steps:
        """The call as this service takes it, and what packs its inputs."""
        if isinstance(call, Encode) and call.packed and not self.wire.has_info:
            raise ClientError("over gRPC codes are binary already; leave `packed` out")
        info = yield from self._info(call, deadline)
        if isinstance(call, Encode) and info is not None:
            call = replace(call, num_concepts=info.num_concepts)
        limits = UNKNOWN if info is None else Limits.of(info, self.config.concurrency)
        return call, Packer(call, self.wire.prepare, limits.at_most(self.config.max_items))

    def _info(self, call: ItemsCall, deadline: Deadline) -> Steps:
        if not self.wire.has_info:
            return None
        known = self._infos.get(call.dictionary)
        if known is not None:
            return known
        try:
            info = yield from self.run(GetInfo(call.dictionary), deadline)
        except ForbiddenError:  # a key that may encode and no more
            if isinstance(call, Encode) and call.packed:
                raise
            return None
        self._infos[call.dictionary] = info
        return info

    def answer(self, call: ItemsCall, batch: Batch, deadline: Deadline) -> Steps:
        """The results of a batch, its own errors included."""
        items = batch.items
        part = Part(())
        if items:
            part = yield from self._exchange(replace(call, items=items), deadline)
        return Part(batch.filled(part.results), part.timings)

    def _exchange(self, call: ItemsCall, deadline: Deadline) -> Steps:
        """The answer to a call, in halves where the service finds it too large."""
        try:
            return (yield from attempts(call, self.policy, deadline))
        except TooLargeError as error:
            self._infos.clear()  # its limits are not what they were
            if len(call.items) == 1:
                item = call.items[0]
                return Part((failed(call, item.id, ItemError.of(error)),))
        half = len(call.items) // 2
        first = yield from self._exchange(replace(call, items=call.items[:half]), deadline)
        second = yield from self._exchange(replace(call, items=call.items[half:]), deadline)
        return first.joined(second)


def collect(parts: Sequence[Part]) -> Part:
    """All parts as one. Raises `ClientError` where they come from different dictionaries."""
    results = tuple(result for part in parts for result in part.results)
    timings = Timings()
    for part in parts:
        timings = timings.slowest(part.timings)
    dictionary_of(results)
    return Part(results, timings)


def dictionary_of(results: Sequence[ResultItem]) -> str | None:
    """The dictionary that all results are of."""
    titles = dict.fromkeys(item.dictionary for item in results if item.dictionary is not None)
    if len(titles) > 1:
        raise ClientError(
            f"the service's dictionary changed during the call ({', '.join(titles)}), and their "
            "codes mean different things; send it again, or name one by `dictionary`"
        )
    return next(iter(titles), None)


def encode_call(options: EncodeOptions) -> Encode:
    """The call that keyword arguments describe. Raises `ClientError`; `TypeError` for unknown."""
    check_names(options, EncodeOptions)
    streams, mode = options.get("streams"), options.get("mode", "independent")
    if isinstance(streams, str):
        raise ClientError(
            f"`streams` must be a list of names, got {streams!r}; write [{streams!r}]"
        )
    if mode not in get_args(Mode):
        raise ClientError(f"`mode` must be one of {', '.join(get_args(Mode))}, got {mode!r}")
    return Encode(
        streams=None if streams is None else tuple(streams),
        mode=mode,
        top_k=options.get("top_k"),
        names=options.get("names", False),
        dictionary=options.get("dictionary"),
        packed=options.get("packed", False),
    )
