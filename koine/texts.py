"""Texts to the token ids that a text backbone reads; knows no model and no framework.

The one implementation for training and serving: token for token open_clip's `SimpleTokenizer`
and `HFTokenizer` (with the cleaning that `TextPreprocess.clean` names) and transformers' fast
tokenizers. The vocabulary is a `tokenizer.json`; what that file says of cutting and padding is
replaced by the spec.
"""

from __future__ import annotations

import hashlib
import html
import string
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import ftfy
import numpy as np
import regex
import tokenizers

from koine.errors import EncoderError, TextError
from koine.streams import TextPreprocess
from koine.types import TokensNT

_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Tokens(NamedTuple):
    """Token ids of N texts, padded on the right."""

    ids_NT: TokensNT
    mask_NT: TokensNT
    """1 where a token stands, 0 where padded."""


class Tokenizer:
    """Turns texts into token ids as a `TextPreprocess` says; safe to share between threads."""

    def __init__(self, spec: TextPreprocess, folder: Path) -> None:
        """Read `spec.tokenizer` in `folder`; EncoderError if it is missing or not the one meant."""
        self._spec = spec
        self._tokenizer = _load(spec, folder)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.context_length)  # pyright: ignore[reportUnknownMemberType]
        special = self._tokenizer.get_added_tokens_decoder()
        names = [regex.escape(special[token].content) for token in sorted(special)]
        # open_clip's own pattern and engine: the tables of another one hold other letters.
        self._words = regex.compile("|".join([*names, _CLIP_WORDS]), regex.IGNORECASE)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Token ids and mask; long texts are cut and keep their end token.

        Raises TextError for a text that is empty, blank or holds half a surrogate pair.
        """
        if isinstance(texts, str):
            raise TypeError("texts is one string; pass a list of them")
        if not texts:
            return _padded([], 0 if not self._spec.fixed_length else self._spec.context_length, 0)
        inputs = [self._input(text, _place(row, texts)) for row, text in enumerate(texts)]
        encodings = self._tokenizer.encode_batch(inputs, is_pretokenized=self._splits)
        for row, encoding in enumerate(encodings):
            if all(encoding.special_tokens_mask):
                raise _nothing_left(texts[row], _place(row, texts))
        ids = [encoding.ids for encoding in encodings]
        width = self._spec.context_length if self._spec.fixed_length else max(map(len, ids))
        return _padded(ids, width, self._spec.pad_id)

    @property
    def _splits(self) -> bool:
        return self._spec.clean == "clip_lower"

    def _input(self, text: str, place: str) -> str | list[str]:
        """The cleaned text, or its words where open_clip's own tokenizer splits them."""
        cleaned = clean_text(text, self._spec.clean)
        if not cleaned or cleaned.isspace():
            raise _nothing_left(text, place)
        try:
            cleaned.encode()
        except UnicodeEncodeError as error:
            raise TextError(
                f"{place} holds half a surrogate pair ({cleaned[error.start]!a} at character "
                f"{error.start}); send valid Unicode"
            ) from error
        return self._words.findall(cleaned) if self._splits else cleaned


def clean_text(text: str, clean: str) -> str:
    """Repair and simplify a text as open_clip does before it looks for tokens.

    `clip_whitespace`: ftfy, HTML entities (twice), white space collapsed; `clip_lower`: and lower
    case; `clip_canonicalize`: no punctuation, lower case; `none`: the text as it is.
    """
    if clean == "none":
        return text
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    if clean == "clip_canonicalize":
        text = text.replace("_", " ").translate(_NO_PUNCTUATION).lower()
    text = " ".join(text.split())
    return text.lower() if clean == "clip_lower" else text


def _load(spec: TextPreprocess, folder: Path) -> tokenizers.Tokenizer:
    path = folder / spec.tokenizer
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EncoderError(f"no tokenizer at {path}: {error.strerror}; put it there") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != spec.tokenizer_sha256:
        raise EncoderError(
            f"{path} is not the tokenizer of this stream: its SHA-256 is {digest}, "
            f"{spec.tokenizer_sha256} is meant; restore the file"
        )
    try:
        return tokenizers.Tokenizer.from_buffer(data)
    except ValueError as error:
        raise EncoderError(f"{path} is no tokenizer.json: {error}; replace it") from error


def _padded(rows: list[list[int]], width: int, pad_id: int) -> Tokens:
    ids_NT = np.full((len(rows), width), pad_id, np.int64)
    mask_NT = np.zeros_like(ids_NT)
    for row, ids in enumerate(rows):
        ids_NT[row, : len(ids)] = ids
        mask_NT[row, : len(ids)] = 1
    return Tokens(ids_NT, mask_NT)


def _place(row: int, texts: Sequence[str]) -> str:
    return "the text" if len(texts) == 1 else f"text {row} of {len(texts)}"


def _nothing_left(text: str, place: str) -> TextError:
    got = "is empty" if not text else f"holds no word or sign: {text[:20]!a}"
    return TextError(f"{place} {got}; send at least one word")
