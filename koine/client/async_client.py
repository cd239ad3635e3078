"""The client for event loops; what it sends and when is decided in `engine.py`."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from types import TracebackType
from typing import Any

import httpx
from typing_extensions import Unpack

from koine.client.batches import Batch, Packer
from koine.client.calls import (
    Compare,
    Concepts,
    EncodeOptions,
    GetConcept,
    GetInfo,
    ItemsCall,
    Localize,
    Part,
    Seconds,
    Translate,
    UpdateConcept,
)
from koine.client.config import ClientOptions, read_config
from koine.client.engine import Engine, collect, dictionary_of, encode_call
from koine.client.inputs import ImageSource, Input, activation_items, image_bytes, images, texts
from koine.client.results import (
    Compared,
    Concept,
    ConceptCard,
    ConceptPage,
    Encoded,
    EncodedItem,
    Info,
    Localized,
    Translated,
)
from koine.client.retry import Deadline, Steps, Wait
from koine.errors import ClientError

Inputs = Iterable[Input] | AsyncIterable[Input]
READ_AT_ONCE = 16
"""Inputs that one hop to a thread reads: files must not hold up the event loop."""


class AsyncClient:
    """A connection to one service, for one event loop. Close it, or use `async with`.

    The same calls as `Client`, errors included; a cancelled call leaves nothing running.
    """

    def __init__(
        self,
        url: str,
        *,
        http_transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        """`url`: `http(s)://…` or `grpc(s)://…`; `options` as `ClientOptions` says.

        `http_transport` carries HTTP in place of sockets, such as `httpx.ASGITransport(app)`.
        Raises `ClientError` for settings that cannot be used.
        """
        config = read_config(url, options)
        if config.target.transport == "grpc":
            from koine.client.over_grpc import AsyncGrpc

            self._transport = AsyncGrpc(config)
        else:
            from koine.client.over_http import AsyncHttp

            self._transport = AsyncHttp(config, http_transport)
        self._engine = Engine(config, self._transport.wire)
        self._closed = False

    def __repr__(self) -> str:
        return f"AsyncClient({self._engine.config.target.url!r})"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections; the client takes no more calls."""
        self._closed = True
        await self._transport.close()

    async def encode(
        self,
        inputs: Inputs,
        **options: Unpack[EncodeOptions],
    ) -> Encoded:
        """Codes of any number of inputs, in order; `options` as `EncodeOptions` says."""
        part = await self._all(encode_call(options), inputs, options.get("timeout"))
        return Encoded(dictionary_of(part.results), part.results, part.timings)

    async def encode_images(
        self, sources: Iterable[ImageSource], **options: Unpack[EncodeOptions]
    ) -> Encoded:
        """Codes of images: paths, files' bytes or Pillow images."""
        return await self.encode(images(sources), **options)

    async def encode_texts(
        self, values: Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Encoded:
        """Codes of texts."""
        return await self.encode(texts(values), **options)

    async def encode_activations(
        self, activations: Mapping[str, Any], **options: Unpack[EncodeOptions]
    ) -> Encoded:
        """Codes of array_ND by stream, row i of each being item i."""
        return await self.encode(activation_items(activations), **options)

    async def encode_stream(
        self,
        inputs: Inputs,
        **options: Unpack[EncodeOptions],
    ) -> AsyncIterator[EncodedItem]:
        """The items' codes one by one, in order, while later inputs are still being read.

        A few requests' worth of inputs and results is held at a time; `timeout` bounds each
        request instead of the whole.
        """
        engine, call, timeout = self._engine, encode_call(options), options.get("timeout")
        async with aclosing(self._parts(call, inputs, lambda: engine.deadline(timeout))) as parts:
            async for part in parts:
                for item in part.results:
                    yield item

    async def compare(
        self,
        inputs: Inputs,
        *,
        streams: Sequence[str] | None = None,
        dictionary: str | None = None,
        timeout: Seconds | None = None,
    ) -> Compared:
        """Where the streams of each input agree, and about what."""
        call = Compare(streams=None if streams is None else tuple(streams), dictionary=dictionary)
        part = await self._all(call, inputs, timeout)
        return Compared(dictionary_of(part.results), part.results, part.timings)

    async def translate(
        self,
        inputs: Inputs,
        to: str,
        *,
        dictionary: str | None = None,
        timeout: Seconds | None = None,
    ) -> Translated:
        """What the encoder of stream `to` would have computed for each input."""
        part = await self._all(Translate(to=to, dictionary=dictionary), inputs, timeout)
        return Translated(dictionary_of(part.results), part.results, part.timings)

    async def localize(
        self,
        image: ImageSource,
        *,
        concept: int | None = None,
        text: str | None = None,
        stream: str | None = None,
        dictionary: str | None = None,
        timeout: Seconds | None = None,
    ) -> Localized:
        """Where in an image a concept lies, given its id or a text.

        Raises `RequestError` for both or neither, `UnknownConceptError` where none fits.
        """
        call = Localize(
            image=await asyncio.to_thread(image_bytes, image),
            concept=concept,
            text=text,
            stream=stream,
            dictionary=dictionary,
        )
        return await self._one(call, timeout)

    async def concepts(
        self,
        q: str | None = None,
        *,
        status: str | None = None,
        dictionary: str | None = None,
        page_size: int = 50,
    ) -> AsyncIterator[Concept]:
        """The dictionary's concepts, those that `q` finds, asked for page by page."""
        cursor: str | None = None
        while True:
            call = Concepts(
                q=q, status=status, limit=page_size, cursor=cursor, dictionary=dictionary
            )
            page: ConceptPage = await self._one(call, None)
            for concept in page.concepts:
                yield concept
            cursor = page.next
            if cursor is None:
                return

    async def concept(
        self, id: int, *, dictionary: str | None = None, timeout: Seconds | None = None
    ) -> ConceptCard:
        """All that is known of one concept."""
        return await self._one(GetConcept(id=id, dictionary=dictionary), timeout)

    async def update_concept(
        self,
        id: int,
        *,
        status: str,
        etag: str,
        label: str | None = None,
        reason: str | None = None,
        dictionary: str | None = None,
        timeout: Seconds | None = None,
    ) -> ConceptCard:
        """Verifies, rejects or renames a concept's label, or withdraws that; the card after it.

        `etag`: of the card that was looked at. Raises `ConflictError` where the concept has
        changed since: look again.
        """
        call = UpdateConcept(
            id=id, status=status, etag=etag, label=label, reason=reason, dictionary=dictionary
        )
        return await self._one(call, timeout)

    async def info(self, dictionary: str | None = None, *, timeout: Seconds | None = None) -> Info:
        """The dictionary, its streams and the service's limits; over HTTP only."""
        return await self._one(GetInfo(dictionary), timeout)

    async def ready(self, *, timeout: Seconds | None = None) -> bool:
        """Whether the service is there and ready; asked once."""
        return await self._drive(self._engine.ready(self._engine.deadline(timeout)))

    async def _one(self, call: Any, timeout: Seconds | None) -> Any:
        engine = self._engine
        return await self._drive(engine.run(call, engine.deadline(timeout)))

    async def _all(self, call: ItemsCall, inputs: Inputs, timeout: Seconds | None) -> Part:
        deadline = self._engine.deadline(timeout)
        async with aclosing(self._parts(call, inputs, lambda: deadline)) as parts:
            return collect([part async for part in parts])

    async def _parts(
        self, call: ItemsCall, inputs: Inputs, deadline: Callable[[], Deadline]
    ) -> AsyncGenerator[Part]:
        """The answers to all batches, in order."""
        engine, chunks = self._engine, _chunks(inputs)
        first = await anext(chunks, None)
        if first is None:
            self._check_open()
            return
        begun = await self._drive(engine.begin(call, deadline()))
        ready: ItemsCall = begun[0]
        slots = asyncio.Semaphore(engine.config.concurrency)

        async def answer(batch: Batch) -> Part:
            async with slots:
                return await self._drive(engine.answer(ready, batch, deadline()))

        pending: deque[asyncio.Task[Part]] = deque()
        try:
            async for batch in _batches(begun[1], first, chunks):
                # twice as many as run: one slow answer at the head must not idle the others
                if len(pending) >= 2 * engine.config.concurrency:
                    yield await pending[0]
                    pending.popleft()
                pending.append(asyncio.create_task(answer(batch)))
            while pending:
                yield await pending[0]
                pending.popleft()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _drive(self, steps: Steps) -> Any:
        """Carries out what `steps` asks for."""
        outcome: Any = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                return end.value
            self._check_open()
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
                outcome = None
            else:
                outcome = await self._transport.send(step.call, step.timeout_s)

    def _check_open(self) -> None:
        if self._closed:
            raise ClientError("the client is closed; make a new one")


async def _chunks(inputs: Inputs) -> AsyncGenerator[Sequence[object]]:
    """The inputs, a few at a time; none is empty."""
    if isinstance(inputs, AsyncIterable):
        chunk: list[object] = []
        async for given in inputs:
            chunk.append(given)
            if len(chunk) >= READ_AT_ONCE:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
        return
    given = iter(inputs)
    while few := tuple(itertools.islice(given, READ_AT_ONCE)):
        yield few


async def _batches(
    packer: Packer, first: Sequence[object], others: AsyncIterable[Sequence[object]]
) -> AsyncGenerator[Batch]:
    def pack(chunk: Sequence[object]) -> list[Batch]:
        return list(packer.add(chunk))

    for batch in await asyncio.to_thread(pack, first):
        yield batch
    async for chunk in others:
        for batch in await asyncio.to_thread(pack, chunk):
            yield batch
    for batch in packer.rest():
        yield batch
