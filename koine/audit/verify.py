"""Checks a log: every entry, the chain, the tree, and every checkpoint against it; mends nothing.

A fault is told with its place and the check goes on behind it, so that one changed byte is one
fault and not one for each entry that follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from koine.audit.checkpoints import CHECKPOINTS, Checkpoint, read_checkpoints
from koine.audit.entries import Entry, event_of, read_entry
from koine.audit.faults import Checked, Fault, FaultKind, Faults
from koine.audit.merkle import ZERO, Frontier
from koine.audit.segments import Line, lines, read_header, segments_of, writers_of
from koine.errors import AuditError


@runtime_checkable
class Key(Protocol):
    """What verifies checkpoints: `koine.audit.signing.VerifyingKey`."""

    def verifies(self, name: str, signature: bytes, text: bytes) -> bool:
        """Whether this key signed the text under this name."""
        ...


def verify_log(root: Path, key: Key | None, published: Sequence[Checkpoint] = ()) -> list[Checked]:
    """Checks the log of every writer under `root`.

    `published`: checkpoints that were kept elsewhere, in any order. Without `key` signatures are
    not checked. Raises `RequestError` where there is no log.
    """
    of_writer: dict[str, list[Checkpoint]] = {}
    for checkpoint in published:
        of_writer.setdefault(checkpoint.writer, []).append(checkpoint)
    checked = [_Writer(f, key, of_writer.pop(f.name, [])).check() for f in writers_of(root)]
    for writer, lost in of_writer.items():
        most = max(c.size for c in lost)
        fault = Fault("truncation", writer, f"no log of it is left, but {most} entries were signed")
        checked.append(Checked(writer, 0, 0, 0, 0, len(lost), (fault,), 0, ()))
    return checked


class _Writer:
    """The check of one writer's folder, line by line."""

    def __init__(self, folder: Path, key: Key | None, published: Sequence[Checkpoint]) -> None:
        self._folder, self._key = folder, key
        self._faults, self._notes = Faults(), list[str]()
        self._writer = folder.name
        self._own = self._read_own()
        self._published = [c for c in published if self._sound(c, "published checkpoint")]
        # a root is kept for every size at which a checkpoint will be compared
        self._wanted = {c.size for c in (*self._own, *self._published)}
        self._roots: dict[int, tuple[bytes, bytes]] = {}
        self._removed: dict[int, str | None] = {}
        self._frontier, self._next, self._head, self._time = Frontier(), 0, ZERO, ""

    def check(self) -> Checked:
        """Reads every segment, then compares the checkpoints."""
        base, segments = 0, segments_of(self._folder)
        for path in segments:
            with path.open("rb") as file:
                self._header(path, file, path == segments[0])
                if path == segments[0]:
                    base = self._next
                self._lines(path, file, path == segments[-1])
        self._check_base(base)
        signed = self._check_checkpoints(base)
        return Checked(
            self._writer, base, self._next, signed, len(self._own), len(self._published),
            tuple(self._faults.found), self._faults.more, tuple(self._notes),
        )  # fmt: skip

    def _header(self, path: Path, file: BinaryIO, first: bool) -> None:
        """Compares a segment's header with the entries before it, and goes on from it."""
        place = f"{path} line 1"
        try:
            header = read_header(path, file)
        except AuditError as error:
            self._faults.add("segment", str(path), str(error))
            return
        size, expected = header.frontier.size, self._next
        if header.writer != self._writer:
            self._faults.add("order", place, f"it is of writer {header.writer!r}")
        if first:
            pass
        elif size > expected:
            self._faults.add("gap", place, f"entries {expected} to {size - 1} are missing")
        elif size < expected:
            what = f"it begins at entry {size}, yet entries up to {expected - 1} stand before it"
            self._faults.add("order", place, what)
        elif (header.head, header.frontier.nodes, header.time) != (
            self._head, self._frontier.nodes, self._time,
        ):  # fmt: skip
            what = "its state is not that of the entries before it: they, or it, were changed"
            self._faults.add("segment", place, what)
        self._frontier, self._next = header.frontier.copy(), size
        self._head, self._time = header.head, header.time
        self._keep()

    def _lines(self, path: Path, file: BinaryIO, last: bool) -> None:
        """Follows the chain through one segment."""
        damaged = False
        for line in lines(file):
            if last and not line.whole:
                self._notes.append(
                    f"{path} ends in {len(line.raw)} bytes of an unfinished entry: it is being "
                    "written, or was cut off; they will be taken off when it is opened again"
                )
                break
            entry = self._entry(path, line)
            if entry is None:
                self._frontier.append(ZERO)
                self._next += 1
            else:
                self._follow(path, line, entry, damaged)
            damaged = entry is None

    def _entry(self, path: Path, line: Line) -> Entry | None:
        try:
            entry = read_entry(line.raw)
            event_of(entry)
            return entry
        except (ValueError, AuditError) as error:
            place = f"{path} line {line.number} (byte {line.offset})"
            self._faults.add("entry", place, f"this is no entry: {error}")
            return None

    def _follow(self, path: Path, line: Line, entry: Entry, damaged: bool) -> None:
        """Compares an entry with the one ahead; `damaged`: whose hash is not known."""
        fault = self._misfit(entry, damaged)
        if fault is not None:
            place = f"{path} line {line.number} (entry {entry.sequence}, byte {line.offset})"
            self._faults.add(fault[0], place, fault[1])
        self._frontier.append(entry.hash)
        if entry.sequence < self._next:
            return  # out of its order: what follows is compared with the one ahead of it
        if entry.event["kind"] == "log" and entry.event["action"] == "removed":
            self._removed[int(entry.event.get("through", 0))] = entry.event.get("digest")
        self._next, self._head = entry.sequence + 1, entry.hash
        self._time = max(self._time, entry.time)
        self._keep()

    def _misfit(self, entry: Entry, damaged: bool) -> tuple[FaultKind, str] | None:
        expected, got = self._next, entry.sequence
        if entry.writer != self._writer:
            return "order", f"it is of writer {entry.writer!r}"
        if got > expected:
            one = got == expected + 1
            missing = f"entry {expected} is" if one else f"entries {expected} to {got - 1} are"
            return "gap", f"{missing} missing before it"
        if got < expected:
            return "order", f"entry {expected} should stand here"
        if not damaged and entry.previous != self._head.hex():
            return "chain", (
                f"entry {got - 1} is not the one that this was written after: that was changed, "
                f"or this inserted (expected {self._head.hex()[:16]}…, got {entry.previous[:16]}…)"
            )
        if entry.time < self._time:
            return "order", f"its time {entry.time} is before {self._time}, that of one ahead"
        return None

    def _keep(self) -> None:
        if self._next in self._wanted:
            self._roots[self._next] = (self._frontier.root(), self._head)

    def _read_own(self) -> list[Checkpoint]:
        """The writer's checkpoints that are sound and follow each other."""
        path, own = self._folder / CHECKPOINTS, list[Checkpoint]()
        before: Checkpoint | None = None
        try:
            for number, found in enumerate(read_checkpoints(path), start=1):
                place = f"{path} line {number}"
                if before is not None and found.previous != before.digest:
                    self._faults.add(
                        "checkpoint", place,
                        "it does not follow the checkpoint before it: one was replaced or removed",
                    )  # fmt: skip
                elif before is None and found.previous != ZERO:
                    self._faults.add("checkpoint", place, "the checkpoints before it are missing")
                before = found
                if self._sound(found, place):
                    own.append(found)
        except FileNotFoundError:
            self._notes.append("it has no checkpoints: whoever rewrites it whole is not found out")
        except AuditError as error:
            self._faults.add("checkpoint", str(path), str(error))
        return own

    def _sound(self, checkpoint: Checkpoint, place: str) -> bool:
        if checkpoint.writer != self._writer:
            self._faults.add("checkpoint", place, f"it is of writer {checkpoint.writer!r}")
            return False
        if self._key is not None and not self._key.verifies(
            checkpoint.name, checkpoint.signature, checkpoint.text
        ):
            self._faults.add(
                "checkpoint", f"{place} ({checkpoint.size} entries)",
                f"its signature is not that of the key (it names {checkpoint.name!r})",
            )  # fmt: skip
            return False
        return True

    def _check_base(self, base: int) -> None:
        if not base:
            return
        signed = {c.size: c.root for c in (*self._own, *self._published)}
        if base not in signed:
            self._faults.add(
                "removal", f"{self._writer} entry {base}",
                "entries before it are gone, and no checkpoint was signed there",
            )  # fmt: skip
        told = {through: root for through, root in self._removed.items() if through >= base}
        if not told or told.get(base, self._root_of(base)) != self._root_of(base):
            self._faults.add(
                "removal", f"{self._writer} entry {base}",
                "entries before it are gone, and the log holds no tombstone for them",
            )  # fmt: skip
        else:
            self._notes.append(f"{base:,} entries were removed after their retention")

    def _root_of(self, size: int) -> str | None:
        found = self._roots.get(size)
        return found[0].hex() if found else None

    def _check_checkpoints(self, base: int) -> int:
        """Compares checkpoints with the tree; the size of the newest that holds."""
        size = self._next
        signed = _compare(self._own, "its checkpoint", base, size, self._roots, self._faults)
        told = "the published checkpoint"
        signed = max(signed, _compare(self._published, told, base, size, self._roots, self._faults))
        self._compare_published()
        if size > signed and not self._faults.found:
            self._notes.append(
                f"the last {size - signed:,} entries are under no checkpoint yet: chained, not "
                "signed"
            )
        return signed

    def _compare_published(self) -> None:
        own = {c.size: c for c in self._own}
        for published in self._published:
            mine = own.get(published.size)
            if mine is None or mine.note != published.note:
                what = "has another" if mine else "lacks it"
                self._faults.add(
                    "checkpoint",
                    f"{self._folder / CHECKPOINTS} (published at {published.size} entries)",
                    f"the log {what}: its checkpoints were replaced",
                )


def _compare(
    checkpoints: Sequence[Checkpoint], what: str, base: int, size: int,
    roots: Mapping[int, tuple[bytes, bytes]], faults: Faults,
) -> int:  # fmt: skip
    """Tells the first checkpoint that does not hold; the size of the last that does."""
    held = base
    for checkpoint in sorted(checkpoints, key=lambda c: c.size):
        if checkpoint.size < base:
            continue
        place = f"{checkpoint.writer} entries {held} to {checkpoint.size - 1}"
        if checkpoint.size > size:
            faults.add(
                "truncation", f"{checkpoint.writer} entry {size}",
                f"the log ends here, but {what} of {checkpoint.time} has {checkpoint.size} entries",
            )  # fmt: skip
            break
        if roots.get(checkpoint.size) != (checkpoint.root, checkpoint.head):
            faults.add(
                "root", place,
                f"they are not those that {what} of {checkpoint.time} was signed over",
            )  # fmt: skip
            break
        held = checkpoint.size
    return held
