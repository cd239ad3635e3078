"""A layer's file: read, followed, locked and appended to; knows no rule of what may be changed.

`<directory>/<digest>.jsonl` has a header and one `Change` a line; the file is the truth, and what
is in memory is its replay. Several processes share it: who writes holds its lock (`flock`), reads
what others wrote, appends in one write and syncs. A writer that was killed leaves an unfinished
line or part of a batch at the end, which readers pass over and the next writer cuts off.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from koine.artifact import Artifact
from koine.concepts import Concept
from koine.errors import ConflictError, LabelsError, RequestError, UnknownConceptError
from koine.labels.changes import Change, Edit, Shown, State, outcome
from koine.streams import Spec

LOCK_S = 10.0
"""How long a writer waits for the others."""

log = logging.getLogger(__name__)


class Header(Spec):
    """The first line: whose labels these are."""

    koine_labels: Literal[1] = 1
    """Version of the format."""
    dictionary: str
    """`name@version`, for people."""
    digest: str
    """The artifact's."""


@dataclass(frozen=True, slots=True)
class Labels:
    """All that a layer said at one moment; nothing writes to it."""

    revision: int = 0
    """Of the last change."""
    shown: Mapping[int, Shown] = field(default_factory=dict[int, Shown])
    """Concepts that were changed."""
    history: Mapping[int, tuple[Change, ...]] = field(default_factory=dict[int, tuple[Change, ...]])
    """Their changes, oldest first."""


@dataclass(slots=True)
class _Place:
    """How far a file has been read."""

    inode: int = 0
    end: int = 0
    """Bytes that were read, always whole batches."""
    lines: int = 0
    stamp: tuple[int, int, int] | None = None
    """Inode, size and time when it was last looked at."""


class _Read(NamedTuple):
    """Where the last whole batch ends."""

    end: int
    lines: int


class LabelLayer:
    """The labels of one artifact in a directory; for any number of threads and processes."""

    def __init__(
        self,
        directory: Path,
        artifact: Artifact,
        concepts: Sequence[Concept],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Reads what is there. Raises `LabelsError`."""
        if not directory.is_dir():
            raise LabelsError(f"{directory} is no directory to keep labels in; make it first")
        self.path = directory / f"{artifact.digest}.jsonl"
        self._header = Header(dictionary=artifact.manifest.title, digest=artifact.digest)
        self._concepts, self._now = concepts, now
        self._lock = threading.Lock()
        self._place, self._labels = _Place(), Labels()
        self.labels()
        if not self.path.exists():
            self._tell_of_earlier(directory)

    def labels(self) -> Labels:
        """The labels as they are now, changes of other processes included. Raises `LabelsError`."""
        with self._lock:
            try:
                found = self.path.stat()
            except FileNotFoundError:
                self._place, self._labels = _Place(), Labels()
                return self._labels
            except OSError as error:
                raise self._unusable("be read", error) from error
            if self._place.stamp != (found.st_ino, found.st_size, found.st_mtime_ns):
                self._follow()
            return self._labels

    def append(self, edits: Sequence[Edit], *, person: str) -> list[Change]:
        """Makes the edits, all or none; those that change nothing are left out.

        Raises `RequestError` for an edit that makes no sense, `UnknownConceptError`,
        `ConflictError` where a concept is not at its edit's `expected` revision, `LabelsError`
        where the file cannot be written.
        """
        with self._lock, self._locked() as fd:
            self._follow(fd)
            changes = self._changes(edits, person)
            if changes:
                self._write(fd, changes)
                self._follow(fd)
        return changes

    def check(self, edits: Sequence[Edit], *, person: str) -> list[Change]:
        """What `append` would write now. Raises what it raises but for writing."""
        self.labels()
        with self._lock:
            return self._changes(edits, person)

    def shown(self, concept: int, labels: Labels | None = None) -> Shown:
        """A concept's state, by the layer or else the artifact. Raises `UnknownConceptError`."""
        if not 0 <= concept < len(self._concepts):
            raise UnknownConceptError(
                f"{concept} is no concept of {self._header.dictionary}; its concepts are 0 to "
                f"{len(self._concepts) - 1}"
            )
        known = (labels or self._labels).shown.get(concept)
        return known or Shown.of(self._concepts[concept])

    def _tell_of_earlier(self, directory: Path) -> None:
        """Logs where people labelled another artifact of this name: those labels do not show."""
        name = self._header.dictionary.partition("@")[0]
        for path in sorted(directory.glob("*.jsonl")):
            try:
                with path.open("rb") as file:
                    other = Header.model_validate_json(file.readline())
            except (OSError, ValidationError):
                continue  # whoever serves that artifact is told
            if other.dictionary.partition("@")[0] == name:
                log.warning(
                    "%s has no labels of %s (digest %.12s), but of %s (digest %.12s): "
                    "`python -m training migrate` carries them over",
                    *(directory, self._header.dictionary, self._header.digest),
                    *(other.dictionary, other.digest),
                )

    def _changes(self, edits: Sequence[Edit], person: str) -> list[Change]:
        wanted: list[tuple[Edit, State, State]] = []
        if len({edit.concept for edit in edits}) < len(edits):
            raise RequestError("a concept is changed twice in one go; leave one change out")
        for edit in edits:
            shown = self.shown(edit.concept)
            if self._made_before(edit, shown, person):
                continue
            if edit.expected not in (None, shown.revision):
                raise ConflictError(_conflict(edit, shown, self._labels))
            after = outcome(shown, edit)
            if after != shown.state or edit.source is not None:
                wanted.append((edit, shown.state, after))
        first = self._labels.revision + 1
        moment = self._now().astimezone(UTC)
        try:
            return [
                Change(
                    revision=first + n, until=self._labels.revision + len(wanted),
                    concept=edit.concept, before=before, after=after,
                    person=person, time=moment, reason=edit.reason or None, source=edit.source,
                    confidence=edit.confidence,
                )
                for n, (edit, before, after) in enumerate(wanted)
            ]  # fmt: skip
        except ValidationError as error:
            fault = error.errors()[0]
            raise RequestError(f"`{fault['loc'][0]}`: {fault['msg']}; change it") from None

    def _made_before(self, edit: Edit, shown: Shown, person: str) -> bool:
        """Whether this very edit is the last change: a request that was sent again."""
        history = list(self._labels.history.get(edit.concept, ()))
        if not history or edit.expected in (None, shown.revision) or history[-1].person != person:
            return False
        last = history.pop()
        seen = history[-1].revision if history else 0
        try:
            same = outcome(Shown(state=last.before, proposed=shown.proposed), edit)
        except RequestError:
            return False
        return seen == edit.expected and same == shown.state

    def _follow(self, fd: int | None = None) -> None:
        """Reads on from where it was read to; from the start where that is another file."""
        try:
            self._read_on(fd)
        except LabelsError:
            if not self._place.end:
                raise
            self._place, self._labels = _Place(), Labels()  # what was read may have been cut off
            self._read_on(fd)

    def _read_on(self, fd: int | None) -> None:
        try:
            with open(self.path if fd is None else os.dup(fd), "rb") as file:
                found = os.fstat(file.fileno())
                seen = (found.st_ino, found.st_size, found.st_mtime_ns)
                replaced = (
                    found.st_ino != self._place.inode
                    or found.st_size < self._place.end
                    # written over in place
                    or (found.st_size == self._place.end and seen != self._place.stamp)
                )
                place = _Place(found.st_ino) if replaced else self._place
                file.seek(place.end)
                data = file.read()
        except OSError as error:
            raise self._unusable("be read", error) from error
        labels = Labels() if replaced else self._labels
        self._labels, read = self._replayed(labels, data, place.lines)
        self._place = _Place(found.st_ino, place.end + read.end, read.lines, seen)

    def _replayed(self, labels: Labels, data: bytes, lines: int) -> tuple[Labels, _Read]:
        """The labels with what whole batches add; what was read up to there."""
        shown, history = dict(labels.shown), dict(labels.history)
        revision, read, whole = labels.revision, 0, _Read(0, lines)
        batch: list[Change] = []
        for raw in data.splitlines(keepends=True):
            if not raw.endswith(b"\n"):
                break
            read, lines = read + len(raw), lines + 1
            if lines == 1:
                self._check_header(raw)
                whole = _Read(read, lines)
                continue
            change = self._change(raw, lines, revision + len(batch) + 1)
            batch.append(change)
            if change.revision < change.until:
                continue
            for each in batch:
                before = shown.get(each.concept) or Shown.of(self._concepts[each.concept])
                shown[each.concept] = before.after(each)
                history[each.concept] = (*history.get(each.concept, ()), each)
            revision, batch, whole = change.revision, [], _Read(read, lines)
        return Labels(revision, shown, history), whole

    def _check_header(self, raw: bytes) -> None:
        try:
            header = Header.model_validate_json(raw)
        except ValidationError:
            raise LabelsError(
                f"{self.path} line 1 is no header of a label layer of version 1; restore the file "
                "from a backup, or move it away to begin a new layer"
            ) from None
        if header.digest != self._header.digest:
            raise LabelsError(
                f"{self.path} holds labels of {header.dictionary} (sha256:{header.digest[:12]}…), "
                f"not of {self._header.dictionary} (sha256:{self._header.digest[:12]}…); give the "
                "directory that holds this dictionary's, or carry the labels over with "
                "`python -m training migrate`"
            )

    def _change(self, raw: bytes, line: int, revision: int) -> Change:
        try:
            change = Change.model_validate_json(raw)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(part) for part in fault["loc"])
            raise self._damaged(
                line, f"{where}: {fault['msg']}" if where else fault["msg"]
            ) from None
        if change.revision != revision or change.until < revision:
            raise self._damaged(line, f"it has revision {change.revision}, {revision} must follow")
        if change.concept >= len(self._concepts):
            raise self._damaged(line, f"the dictionary has no concept {change.concept}")
        return change

    def _damaged(self, line: int, reason: str) -> LabelsError:
        return LabelsError(
            f"{self.path} line {line} is no change of a label ({reason}); restore the file from a "
            "backup, or cut it off before this line"
        )

    @contextmanager
    def _locked(self) -> Generator[int]:
        """The file, open and locked against other processes; made where there is none."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o660)
        except OSError as error:
            raise self._unusable("be written", error) from error
        try:
            self._take_lock(fd)
            yield fd
        finally:
            os.close(fd)  # which gives the lock back

    def _take_lock(self, fd: int) -> None:
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabelsError(
                        f"{self.path} is locked by another process for {LOCK_S:g} s; try again"
                    ) from None
                time.sleep(0.005)
            except OSError as error:
                raise self._unusable("be locked", error) from error

    def _write(self, fd: int, changes: Sequence[Change]) -> None:
        """Appends in one write and syncs; leaves the file as it was where that fails."""
        size, end = os.fstat(fd).st_size, self._place.end
        if size > end:
            log.warning("%s ended in a torn write: %d bytes are cut off", self.path, size - end)
        lines = "".join(change.model_dump_json() + "\n" for change in changes)
        header = "" if end else self._header.model_dump_json() + "\n"
        data = (header + lines).encode()
        try:
            if size > end:
                os.ftruncate(fd, end)
            written = os.write(fd, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
            if header:
                self._sync_directory()
        except OSError as error:
            os.ftruncate(fd, end)
            raise self._unusable("be written, nothing was changed", error) from error

    def _sync_directory(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _unusable(self, what: str, error: OSError) -> LabelsError:
        return LabelsError(
            f"the labels in {self.path} cannot {what}: {error.strerror}; make room or mend the "
            "permissions, then try again"
        )


def _conflict(edit: Edit, shown: Shown, labels: Labels) -> str:
    state = shown.state
    label = "no label" if state.label is None else f"the label {state.label!r}"
    told = f"concept {edit.concept} has {label}, status `{state.status}`, revision {shown.revision}"
    if history := labels.history.get(edit.concept):
        told += f", by {history[-1].person}"
    return f"somebody else was first: {told}; it was {edit.expected} when you looked. Look again"
