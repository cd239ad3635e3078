"""The client for threads; what it sends and when is decided in `engine.py`."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

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

Deadlines = Callable[[], Deadline]
"""The end of the next request."""


class Client:
    """A connection to one service, for any number of threads. Close it, or use `with`.

    Every call raises errors of `koine.errors`: what concerns the whole call, or that the service
    could not be reached in time. What is wrong with one item stands in its result.
    """

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        """`url`: `http(s)://…` or `grpc(s)://…`; `options` as `ClientOptions` says.

        Raises `ClientError` for settings that cannot be used.
        """
        config = read_config(url, options)
        if config.target.transport == "grpc":
            from koine.client.over_grpc import SyncGrpc as Transport
        else:
            from koine.client.over_http import SyncHttp as Transport
        self._transport = Transport(config)
        self._engine = Engine(config, self._transport.wire)
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return f"Client({self._engine.config.target.url!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is under way; the client takes no more calls."""
        self._closed.set()
        self._transport.close()

    def encode(
        self,
        inputs: Iterable[Input],
        **options: Unpack[EncodeOptions],
    ) -> Encoded:
        """Codes of any number of inputs, in order; `options` as `EncodeOptions` says."""
        part = self._all(encode_call(options), inputs, options.get("timeout"))
        return Encoded(dictionary_of(part.results), part.results, part.timings)

    def encode_images(
        self, sources: Iterable[ImageSource], **options: Unpack[EncodeOptions]
    ) -> Encoded:
        """Codes of images: paths, files' bytes or Pillow images."""
        return self.encode(images(sources), **options)

    def encode_texts(self, values: Iterable[str], **options: Unpack[EncodeOptions]) -> Encoded:
        """Codes of texts."""
        return self.encode(texts(values), **options)

    def encode_activations(
        self, activations: Mapping[str, Any], **options: Unpack[EncodeOptions]
    ) -> Encoded:
        """Codes of array_ND by stream, row i of each being item i."""
        return self.encode(activation_items(activations), **options)

    def encode_stream(
        self,
        inputs: Iterable[Input],
        **options: Unpack[EncodeOptions],
    ) -> Iterator[EncodedItem]:
        """The items' codes one by one, in order, while later inputs are still being read.

        A few requests' worth of inputs and results is held at a time; `timeout` bounds each
        request instead of the whole.
        """
        engine, call, timeout = self._engine, encode_call(options), options.get("timeout")
        parts = self._parts(call, inputs, lambda: engine.deadline(timeout))
        return (item for part in parts for item in part.results)

    def compare(
        self,
        inputs: Iterable[Input],
        *,
        streams: Sequence[str] | None = None,
        dictionary: str | None = None,
        timeout: Seconds | None = None,
    ) -> Compared:
        """Where the streams of each input agree, and about what."""
        call = Compare(streams=None if streams is None else tuple(streams), dictionary=dictionary)
        part = self._all(call, inputs, timeout)
        return Compared(dictionary_of(part.results), part.results, part.timings)

    def translate(
        self,
        inputs: Iterable[Input],
        to: str,
        *,
        dictionary: str | None = None,
        timeout: Seconds | None = None,
    ) -> Translated:
        """What the encoder of stream `to` would have computed for each input."""
        part = self._all(Translate(to=to, dictionary=dictionary), inputs, timeout)
        return Translated(dictionary_of(part.results), part.results, part.timings)

    def localize(
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
            image=image_bytes(image),
            concept=concept,
            text=text,
            stream=stream,
            dictionary=dictionary,
        )
        return self._one(call, timeout)

    def concepts(
        self,
        q: str | None = None,
        *,
        status: str | None = None,
        dictionary: str | None = None,
        page_size: int = 50,
    ) -> Iterator[Concept]:
        """The dictionary's concepts, those that `q` finds, asked for page by page."""
        cursor: str | None = None
        while True:
            call = Concepts(
                q=q, status=status, limit=page_size, cursor=cursor, dictionary=dictionary
            )
            page: ConceptPage = self._one(call, None)
            yield from page.concepts
            cursor = page.next
            if cursor is None:
                return

    def concept(
        self, id: int, *, dictionary: str | None = None, timeout: Seconds | None = None
    ) -> ConceptCard:
        """All that is known of one concept."""
        return self._one(GetConcept(id=id, dictionary=dictionary), timeout)

    def update_concept(
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
        return self._one(call, timeout)

    def info(self, dictionary: str | None = None, *, timeout: Seconds | None = None) -> Info:
        """The dictionary, its streams and the service's limits; over HTTP only."""
        return self._one(GetInfo(dictionary), timeout)

    def ready(self, *, timeout: Seconds | None = None) -> bool:
        """Whether the service is there and ready; asked once."""
        return self._drive(self._engine.ready(self._engine.deadline(timeout)), self._closed)

    def _one(self, call: Any, timeout: Seconds | None) -> Any:
        engine = self._engine
        return self._drive(engine.run(call, engine.deadline(timeout)), self._closed)

    def _all(self, call: ItemsCall, inputs: Iterable[Input], timeout: Seconds | None) -> Part:
        deadline = self._engine.deadline(timeout)
        return collect(list(self._parts(call, inputs, lambda: deadline)))

    def _parts(
        self, call: ItemsCall, inputs: Iterable[Input], deadline: Deadlines
    ) -> Iterator[Part]:
        """The answers to all batches, in order."""
        given = iter(inputs)
        first = tuple(itertools.islice(given, 1))
        if not first:
            self._check_open()
            return
        engine = self._engine
        begun = self._drive(engine.begin(call, deadline()), self._closed)
        ready: ItemsCall = begun[0]
        batches = _batches(begun[1], itertools.chain(first, given))
        head = list(itertools.islice(batches, 2))
        if len(head) == 1:  # no thread is needed
            yield self._drive(engine.answer(ready, head[0], deadline()), self._closed)
            return
        stop = threading.Event()

        def answer(batch: Batch) -> Part:
            return self._drive(engine.answer(ready, batch, deadline()), stop)

        concurrency = engine.config.concurrency
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="koine-client")
        pending: deque[Future[Part]] = deque()
        try:
            for batch in itertools.chain(head, batches):
                # twice as many as run: one slow answer at the head must not idle the others
                if len(pending) >= 2 * concurrency:
                    yield pending.popleft().result()
                pending.append(pool.submit(answer, batch))
            while pending:
                yield pending.popleft().result()
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _drive(self, steps: Steps, stop: threading.Event) -> Any:
        """Carries out what `steps` asks for; ends early once `stop` is set."""
        outcome: Any = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                return end.value
            self._check_open()
            if stop.is_set():
                raise ClientError("the call was given up; make it again")
            if isinstance(step, Wait):
                stop.wait(step.seconds)
                outcome = None
            else:
                outcome = self._transport.send(step.call, step.timeout_s)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ClientError("the client is closed; make a new one")


def _batches(packer: Packer, inputs: Iterable[Input]) -> Iterator[Batch]:
    yield from packer.add(inputs)
    yield from packer.rest()
