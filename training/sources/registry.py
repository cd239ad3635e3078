"""The kinds of sources by name; a new kind is one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from koine.errors import RequestError
from training.sources.captions_folder import CaptionsFolder
from training.sources.coco import CocoCaptions
from training.sources.item import Source
from training.sources.open_images import OpenImages
from training.sources.webdataset import WebDataset

SOURCES: dict[str, Callable[[Path], Source]] = {
    source.kind: source for source in (CaptionsFolder, WebDataset, CocoCaptions, OpenImages)
}


def open_source(kind: str, folder: Path) -> Source:
    """A source of a kind; SourceError where the folder does not hold one."""
    if kind not in SOURCES:
        raise RequestError(f"Unknown source {kind!r}; use one of {', '.join(SOURCES)}.")
    return SOURCES[kind](folder)
