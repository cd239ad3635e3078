"""A layer as a CSV that a person edits in a spreadsheet program, and back; writes no layer.

The columns `label`, `status` and `reason` are for people; `revision` says which state a row shows,
so that what somebody else changed meanwhile is not overwritten.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from koine.concepts import Concept, Status
from koine.errors import ConflictError, KoineError, RequestError
from koine.labels.changes import Change, Edit, Shown, State
from koine.labels.layer import LabelLayer, Labels

NEEDED = ("id", "label", "status", "reason", "revision")
"""Columns that are read; the others are for the eye."""
MOST_BYTES = 256 * 2**20
MOST_ERRORS = 20
"""Errors that are told at once."""
_FORMULA = re.compile(r"'*[=+\-@\t\r|]")
_GUARDED = re.compile(r"'+[=+\-@\t\r|]")
_REVISION = re.compile(r"r([0-9]{1,12})@([0-9a-f]{12})")
_STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Row:
    """What a person left in one row."""

    line: int
    concept: int
    state: State
    reason: str | None
    revision: int


def write_table(path: Path, digest: str, concepts: Sequence[Concept], layer: LabelLayer) -> Labels:
    """Writes every concept as the layer has it; what was written.

    UTF-8 with a mark, without which Excel reads another encoding.
    """
    labels = layer.labels()
    streams = list(dict.fromkeys(name for concept in concepts for name in concept.rate))
    rates = [f"rate.{name}" for name in streams]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        out = csv.writer(file)
        out.writerow([*NEEDED[:4], "score", *rates, "candidates", "captions", "revision"])
        for concept in concepts:
            shown = layer.shown(concept.id, labels)
            cells = [concept.id, shown.state.label or "", shown.state.status, ""]
            cells += ["" if concept.score is None else f"{concept.score:.4g}"]
            cells += [f"{concept.rate.get(name, 0):.4g}" for name in streams]
            cells += [_candidates(concept, shown), _captions(concept)]
            cells += [f"r{shown.revision}@{digest[:12]}"]
            out.writerow([guarded(str(cell)) for cell in cells])
    return labels


def read_table(path: Path, digest: str, layer: LabelLayer, person: str) -> list[Edit]:
    """The edits that a person made in a table. Raises `RequestError`, which names every line that
    is wrong, and `ConflictError` where somebody else changed a concept since the export."""
    labels, edits = layer.labels(), list[Edit]()
    wrong, late = list[str](), list[str]()
    seen: dict[int, int] = {}
    for line, cells in _rows(path):
        try:
            row = _row(line, cells, digest)
            if (first := seen.setdefault(row.concept, line)) != line:
                raise RequestError(f"concept {row.concept} stands in line {first} already")
            edit = _edit(row, layer, labels)
            if edit is not None:
                layer.check([edit], person=person)
                edits.append(edit)
        except ConflictError as error:
            late.append(f"line {line}: {error}")
        except KoineError as error:
            wrong.append(f"line {line}: {error}")
    if wrong:
        raise RequestError(_told(path, [*wrong, *late]))
    if late:
        raise ConflictError(_told(path, late))
    return edits


def guarded(text: str) -> str:
    """The text with a `'` before it where a spreadsheet program would take it for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """The text that was guarded."""
    return text[1:] if _GUARDED.match(text) else text


def _candidates(concept: Concept, shown: Shown) -> str:
    terms = dict.fromkeys([shown.proposed, *(each.term for each in concept.evidence)])
    return "; ".join(term for term in terms if term is not None)


def _captions(concept: Concept) -> str:
    captions = dict.fromkeys(each.caption for each in concept.exemplars)
    return "; ".join(caption for caption in captions if caption)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows by column, and the line where each begins."""
    text = _text(path)
    lines = text.splitlines()
    if not lines:
        raise RequestError(f"{path} is empty; give what `labels export` wrote")
    # some spreadsheet programs save with the separator of their language
    separator = max(",;\t", key=lines[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        columns = [name.strip() for name in next(reader)]
        missing = [name for name in NEEDED if columns.count(name) != 1]
        if missing:
            raise RequestError(
                f"{path} line 1 must have each of the columns {', '.join(NEEDED)} once; "
                f"{', '.join(missing)} is missing or repeated"
            )
        line = reader.line_num + 1
        for cells in reader:
            if any(cells):
                padded = [*cells, *[""] * (len(columns) - len(cells))]
                yield line, dict(zip(columns, padded, strict=False))
            line = reader.line_num + 1
    except csv.Error as error:
        raise RequestError(f"{path} line {reader.line_num}: {error}; mend the quotes") from None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RequestError(f"{path} is larger than {MOST_BYTES} bytes; it is no label table")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as CSV UTF-8"
        ) from None


def _row(line: int, cells: Mapping[str, str], digest: str) -> Row:
    id_ = cells["id"].strip()
    if not (id_.isascii() and id_.isdigit() and len(id_) < 10):
        raise RequestError(f"`id` must be a concept's number, got {id_[:64]!r}")
    status = cells["status"].strip().lower()
    if status not in _STATUSES:
        raise RequestError(f"`status` must be one of {', '.join(_STATUSES)}, got {status[:64]!r}")
    found = _REVISION.fullmatch(cells["revision"].strip())
    if found is None:
        raise RequestError(
            f"`revision` must be as `labels export` wrote it, got {cells['revision'][:64]!r}; "
            "do not edit that column"
        )
    if found[2] != digest[:12]:
        raise RequestError(
            f"the row is of another dictionary (sha256:{found[2]}…) than this (sha256:"
            f"{digest[:12]}…); export this one's table"
        )
    label = unguarded(" ".join(cells["label"].split())) or None
    state = State(label=label, status=cast("Any", status))
    return Row(line, int(id_), state, unguarded(cells["reason"].strip()) or None, int(found[1]))


def _edit(row: Row, layer: LabelLayer, labels: Labels) -> Edit | None:
    """What a person made of a row; None where it is as it was exported."""
    shown = layer.shown(row.concept, labels)
    exported = _state_at(row, shown, labels.history.get(row.concept, ()))
    if row.state == exported:
        return None
    status, label = row.state.status, row.state.label
    if status == exported.status and label is not None:
        status = "renamed"  # only the label was edited
    if status in ("rejected", "proposed", "unnamed") and label == exported.label:
        label = None  # left as it stood
    return Edit(
        concept=row.concept, status=status, label=label, reason=row.reason, expected=row.revision
    )


def _state_at(row: Row, shown: Shown, history: Sequence[Change]) -> State:
    """A concept's state at a row's revision."""
    if row.revision == 0:
        return history[0].before if history else shown.state
    for change in history:
        if change.revision == row.revision:
            return change.after
    raise RequestError(
        f"the layer has no revision {row.revision} of concept {row.concept}; export the table again"
    )


def _told(path: Path, errors: Sequence[str]) -> str:
    more = [f"and {len(errors) - MOST_ERRORS} more"] if len(errors) > MOST_ERRORS else []
    return f"nothing of {path} was applied:\n" + "\n".join([*errors[:MOST_ERRORS], *more])
