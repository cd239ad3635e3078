"""The concepts of one dictionary as people have labelled them, followed while it is served.

The worker that writes a label shows it at once; the others look at the layer's file every
`POLL_S`. A layer that cannot be read any more is logged, and what was read before stays.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from koine.concepts import Concept
from koine.errors import ConflictError, KoineError, NoLabelsError
from koine.labels import Change, Edit, LabelLayer, Labels, Shown, label_event
from service import telemetry
from service.audit import Audit
from service.settings import PREFIX
from service.telemetry import audit as lines

POLL_S = 1.0
"""How often the layer's file is looked at."""

log = logging.getLogger(__name__)


class Labelled(NamedTuple):
    """All concepts at one moment; nothing writes to it."""

    concepts: list[Concept]
    """By id, with the layer's labels."""
    labels: Mapping[int, str]
    """Those that are shown, by concept."""
    layer: Labels

    def shown(self, concept: Concept) -> Shown:
        """Its state in the layer; of a concept that nobody changed, the artifact's."""
        return self.layer.shown.get(concept.id) or Shown.of(concept)


class LabelBook:
    """`start` it in an event loop, read what is `labelled`, `change` it, `close` it."""

    def __init__(
        self,
        title: str,
        concepts: Sequence[Concept],
        layer: LabelLayer | None,
        audit: Audit | None = None,
    ) -> None:
        """Raises `LabelsError`."""
        self._title, self._artifact, self._layer, self._audit = title, concepts, layer, audit
        self._lock = threading.Lock()
        self._following: asyncio.Task[None] | None = None
        self._fault: str | None = None
        labels = {c.id: c.label for c in concepts if c.label is not None}
        self.labelled = Labelled(list(concepts), labels, Labels())
        self.refresh()

    def start(self) -> None:
        """Begins to follow the layer in the running event loop."""
        if self._layer is not None:
            self._following = asyncio.create_task(self._follow(), name="labels")

    async def close(self) -> None:
        """Stops following it."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def current(self) -> Labelled:
        """The concepts with what other processes wrote; one that cannot be read changes none."""
        if self._layer is not None:
            await asyncio.to_thread(self._refresh_or_log)
        return self.labelled

    def refresh(self) -> None:
        """Takes over what the layer says. For a thread: it reads a file. Raises `LabelsError`."""
        if self._layer is None:
            return
        with self._lock:
            labels = self._layer.labels()
            if labels is not self.labelled.layer:
                self.labelled = self._applied(labels)

    async def change(self, edit: Edit, person: str, digest: str) -> Change | None:
        """Makes an edit; None where it changes nothing. The change is an audit event.

        Raises `NoLabelsError` where no layer is kept, what `LabelLayer.append` raises, and
        `AuditError` where the change is made and the audit log cannot say so.
        """
        if self._layer is None:
            raise NoLabelsError(
                f"this service keeps no labels; set {PREFIX}LABELS to a directory and start it "
                "again"
            )
        layer = self._layer
        try:
            changes = await asyncio.to_thread(lambda: layer.append([edit], person=person))
        except ConflictError:
            await self.current()  # who is refused is told the present state
            raise
        await self.current()
        if not changes:
            return None
        told = changes[0].model_dump(mode="json", exclude={"until"})
        told["changed"] = told.pop("time")  # the record has a time of its own
        lines.write("label", {"dictionary": self._title, "digest": digest, **told})
        if self._audit is not None:
            request = telemetry.current()
            event = label_event(changes[0], digest)
            if request is not None:
                ids = {"key": request.key_id, "trace": request.trace_id}
                event = event.model_copy(update=ids)
            await self._audit.record(event)
        return changes[0]

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.current()
            except Exception:  # the edge of the following task: it must go on
                log.exception("an unforeseen error while reading the labels of %s", self._title)

    def _refresh_or_log(self) -> None:
        try:
            self.refresh()
        except KoineError as error:
            if self._fault != str(error):
                log.error("%s; the labels of before stay in use", error)
            self._fault = str(error)
            return
        self._fault = None

    def _applied(self, labels: Labels) -> Labelled:
        """All with these labels; concepts that they do not change are shared."""
        concepts = list(self._artifact)
        for id_, shown in labels.shown.items():
            concepts[id_] = _labelled(concepts[id_], shown)
        by_id = {c.id: c.label for c in concepts if c.label is not None}
        return Labelled(concepts, by_id, labels)


def _labelled(concept: Concept, shown: Shown) -> Concept:
    """The concept with another label; the figures that the old one was given go with it."""
    update: dict[str, object] = {
        "label": shown.state.label, "status": shown.state.status, "source": shown.source
    }  # fmt: skip
    if shown.state.label != concept.label or shown.proposed != concept.label:
        update |= {"score": shown.confidence if shown.state.label else None, "purity": {}}
    return concept.model_copy(update=update)
