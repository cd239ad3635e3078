"""A multipart/form-data body to its parts, in memory: nothing a client sends touches the disk."""

from __future__ import annotations

from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from koine.errors import RequestError

MAX_PARTS = 10_000


class Part(NamedTuple):
    """One part of a form."""

    name: str
    is_file: bool
    """Whether it has a file name or says that it is an image."""
    data: bytes

    @property
    def text(self) -> str:
        """The part as UTF-8. Raises `RequestError`."""
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            raise RequestError(f"the part `{self.name}` is no UTF-8 text: {error}") from None


def read_parts(content_type: str, body: bytes) -> list[Part]:
    """The parts in order. Raises `RequestError` for a body that is cut or malformed."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise RequestError(
            f"the Content-Type {content_type!r} names no boundary; let the HTTP client set it"
        )
    collector = _Collector()
    try:
        parser = MultipartParser(boundary, collector.callbacks())  # pyright: ignore
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RequestError(f"the body is no readable multipart/form-data: {error}") from None
    if not collector.ended:
        raise RequestError("the multipart/form-data body ends early; send all of it")
    return collector.parts


class _Collector:
    """What python-multipart's callbacks put together."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._reset()

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._reset,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _reset(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value, self._data = bytearray(), bytearray(), bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _part_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise RequestError("a part of the form has no name; name it `image` or `text`")
        if len(self.parts) >= MAX_PARTS:
            raise RequestError(f"the form has more than {MAX_PARTS} parts; split it")
        media_type = self._headers.get(b"content-type", b"")
        is_file = b"filename" in options or media_type.startswith(b"image/")
        name = options[b"name"].decode(errors="replace")
        self.parts.append(Part(name, is_file, bytes(self._data)))

    def _end(self) -> None:
        self.ended = True
