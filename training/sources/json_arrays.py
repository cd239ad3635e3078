"""Stream the arrays of one large JSON object, element by element; knows no data set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from koine.errors import SourceError

CHUNK_CHARS = 1 << 16
MAX_ELEMENT_CHARS = 1 << 24
_SPACE = " \t\r\n"
_AFTER_VALUE = frozenset(_SPACE + ",:]}")


def iterate_array(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """Objects of the array under a top-level `key`, in file order.

    Raises SourceError where the file is no such JSON; memory holds one element and a chunk.
    """
    with path.open(encoding="utf-8") as file:
        reader = _Reader(file, path)
        reader.expect("{")
        found = False
        while reader.peek() != "}":
            name = reader.value()
            reader.expect(":")
            if name == key:
                found = True
                yield from _objects(reader, path, key)
            else:
                reader.skip_value()
            if reader.peek() == ",":
                reader.expect(",")
        if not found:
            raise SourceError(f"{path} has no `{key}`. Is it a COCO annotation file?")


def _objects(reader: _Reader, path: Path, key: str) -> Iterator[dict[str, Any]]:
    for element in reader.elements():
        if not isinstance(element, dict):
            raise SourceError(
                f"{path}: `{key}` must hold objects, got {type(element).__name__}. Correct it."
            )
        yield element


class _Reader:
    """A window over a JSON text that grows only as far as the value being read."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path = file, path
        self._decoder = json.JSONDecoder()
        self._buffer, self._at, self._read = "", 0, 0

    def peek(self) -> str:
        """The next character that is no space; SourceError at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _SPACE:
                    return self._buffer[self._at]
                self._at += 1
            if not self._grow():
                self._fail("it ends too early")

    def expect(self, character: str) -> None:
        """Step over a character."""
        if (got := self.peek()) != character:
            self._fail(f"expected {character!r}, got {got!r}")
        self._at += 1

    def value(self) -> object:
        """Read one value whole."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if not self._grow():
                    self._fail(error.msg)
                continue
            # a number may go on in the next chunk: `0` of `0.5`, and even of `0.`
            if self._buffer[end : end + 1] in _AFTER_VALUE or not self._grow():
                self._at = end
                return value

    def elements(self) -> Iterator[object]:
        """Read an array element by element."""
        self.expect("[")
        while self.peek() != "]":
            yield self.value()
            if self.peek() != "]":
                self.expect(",")
        self.expect("]")

    def skip_value(self) -> None:
        """Step over a value, arrays element by element."""
        if self.peek() == "[":
            for _ in self.elements():
                pass
        else:
            self.value()

    def _grow(self) -> bool:
        if len(self._buffer) - self._at > MAX_ELEMENT_CHARS:
            self._fail("a single value is longer than 16 MiB, or broken")
        try:
            more = self._file.read(CHUNK_CHARS)
        except UnicodeDecodeError as error:
            self._fail(f"it is not UTF-8: {error}")
        self._buffer, self._at = self._buffer[self._at :] + more, 0
        self._read += len(more)
        return bool(more)

    def _fail(self, what: str) -> NoReturn:
        around = self._read - len(self._buffer) + self._at
        raise SourceError(
            f"{self._path} is no readable JSON: {what}, near character {around:,}. Download or"
            " write the file again."
        )
