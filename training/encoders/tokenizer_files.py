"""Tokenizer files and what the spec says of them; tokenizes nothing.

open_clip ships its byte-pair vocabulary in its own form; here it becomes a `tokenizer.json`.
"""

from __future__ import annotations

import atexit
import functools
import gzip
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from open_clip.tokenizer import bytes_to_unicode, default_bpe
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from koine.streams import TextPreprocess
from training.encoders.weights import Files, read_json

START, END = "<start_of_text>", "<end_of_text>"
_MERGES = 49152 - 256 - 2
"""Merges that open_clip keeps of the file; its first line is a comment."""


@functools.cache
def clip_tokenizer_file() -> Path:
    """open_clip's `SimpleTokenizer` as a `tokenizer.json`, in a directory gone when we exit."""
    folder = Path(tempfile.mkdtemp(prefix="koine-tokenizer-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "tokenizer.json"
    clip_tokenizer().save(str(path), pretty=False)
    return path


def clip_tokenizer() -> Tokenizer:
    """open_clip's byte-pair encoding for words that `clean: clip_lower` has split already."""
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")
    merges = [(first, second) for first, second in map(str.split, lines[1 : _MERGES + 1])]
    letters = list(bytes_to_unicode().values())
    vocabulary = [*letters, *(letter + "</w>" for letter in letters)]
    vocabulary += ["".join(merge) for merge in merges]
    ids = {token: number for number, token in enumerate([*vocabulary, START, END])}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in (START, END)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, ids[START]), (END, ids[END])]
    )
    return tokenizer


def text_preprocess(file: Path, context_length: int, **fields: Any) -> TextPreprocess:
    """The spec of a tokenizer file, which lies where the spec is used."""
    return TextPreprocess(
        tokenizer=file.name,
        tokenizer_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        context_length=context_length,
        **fields,
    )


def pad_id_of(file: Path, files: Files | None) -> int:
    """The padding token's id: of `tokenizer_config.json`, else of the file itself, else 0."""
    beside = files.beside("tokenizer_config.json") if files else None
    stated = read_json(beside).get("pad_token") if beside else None
    if isinstance(stated, dict):
        stated = stated["content"]
    if stated is not None:
        token = Tokenizer.from_file(str(file)).token_to_id(stated)
        if token is not None:
            return token
    padding = read_json(file).get("padding")
    return padding["pad_id"] if padding else 0
