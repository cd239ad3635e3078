"""Finds an encoder's files: local first, then the Hugging Face hub; reads no tensor's meaning."""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import huggingface_hub
import safetensors.torch
import torch
from huggingface_hub import errors
from safetensors import SafetensorError

from koine.errors import EncoderError
from koine.hub import out_of_reach

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@runtime_checkable
class Files(Protocol):
    """Where an encoder's weights and the files beside them lie."""

    def weights(self, *names: str) -> Path:
        """The first of `names` that exists; EncoderError saying what to put where if none does."""
        ...

    def beside(self, name: str) -> Path | None:
        """A file that describes the weights, or None where there is none."""
        ...


def find_files(encoder: str, weights: str, folder: Path | None) -> Files:
    """Where `weights` of the encoder called `encoder` lie.

    A path (absolute, or below `folder`) wins; `org/name` is looked for below `folder` as it
    stands and as `name`, then on the hub. Raises EncoderError when there is nothing to look in.
    """
    looked = _places(weights, folder)
    for place in looked:
        if place.is_file():
            return LocalFile(place)
        if place.is_dir():
            return LocalFolder(encoder, place)
    if _HUB_ID.fullmatch(weights) and Path(weights).suffix != ".onnx":
        return Hub(encoder, weights, looked)
    raise EncoderError(
        f"the weights of encoder `{encoder}` are missing: nothing at "
        f"{' or '.join(map(str, looked))}, and {weights!r} is no hub id `org/name`; put the file "
        "or directory there, or name another in the recipe"
    )


def _places(weights: str, folder: Path | None) -> list[Path]:
    path = Path(weights).expanduser()
    if path.is_absolute():
        return [path]
    root = (folder or Path()).absolute()
    return [root / path] if len(path.parts) == 1 else [root / path, root / path.name]


@dataclass(frozen=True)
class LocalFile:
    """One file of weights, nothing beside it."""

    path: Path

    def weights(self, *names: str) -> Path:
        suffix = Path(names[0]).suffix
        if self.path.suffix != suffix:
            raise EncoderError(
                f"{self.path} is no {suffix} file; give one (pickled weights are never read)"
            )
        return self.path

    def beside(self, name: str) -> Path | None:
        return None


@dataclass(frozen=True)
class LocalFolder:
    """A directory in its library's own layout."""

    encoder: str
    path: Path

    def weights(self, *names: str) -> Path:
        for name in names:
            if (self.path / name).is_file():
                return self.path / name
        raise EncoderError(
            f"the weights of encoder `{self.encoder}` are missing: {self.path} holds none of "
            f"{', '.join(names)}; put one there"
        )

    def beside(self, name: str) -> Path | None:
        path = self.path / name
        return path if path.is_file() else None


@dataclass(frozen=True)
class Hub:
    """A repository of the Hugging Face hub, read through its cache."""

    encoder: str
    repository: str
    looked: Sequence[Path]
    """Local places that held nothing, for the error."""

    def weights(self, *names: str) -> Path:
        for name in names:
            path = self.beside(name)
            if path is not None:
                return path
        raise EncoderError(
            f"the weights of encoder `{self.encoder}` are missing: {self.repository} on the hub "
            f"holds none of {', '.join(names)} (pickled weights are never read); put a "
            f"safetensors file into {self.looked[-1]}"
        )

    def beside(self, name: str) -> Path | None:
        cached = huggingface_hub.try_to_load_from_cache(self.repository, name)
        if isinstance(cached, str):
            return Path(cached)
        if cached is not None:
            return None  # the cache knows that the repository has no such file
        if reason := out_of_reach():
            raise self._missing(reason)
        try:
            return Path(huggingface_hub.hf_hub_download(self.repository, name))
        except errors.LocalEntryNotFoundError as error:
            raise self._missing("the hub stopped answering") from error
        except errors.EntryNotFoundError:
            return None
        except (errors.HTTPError, OSError) as error:
            raise self._missing(one_line(error)) from error

    def _missing(self, reason: str) -> EncoderError:
        return EncoderError(
            f"the weights of encoder `{self.encoder}` are missing: nothing at "
            f"{' or '.join(map(str, self.looked))}, and {self.repository} is not to be had from "
            f"the hub ({reason}); put its files (safetensors and the JSON beside them) into "
            f"{self.looked[-1]}, or go online"
        )


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file; EncoderError if it is none."""
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise EncoderError(
            f"{path} is no readable safetensors file: {error}; replace it (pickled weights are "
            "never read)"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object beside the weights; EncoderError if the file holds none."""
    try:
        described = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read: {error}; restore the file") from error
    if not isinstance(described, dict):
        raise EncoderError(f"{path} holds no JSON object; restore the file")
    return described


def one_line(error: Exception) -> str:
    """A library's message, which may run over many lines, short enough for a sentence."""
    return textwrap.shorten(str(error), 300, placeholder=" …")


def revision_of_files(*paths: Path) -> str:
    """`sha256:` of the bytes of the weights' files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def revision_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """`sha256:` of names, types, shapes and values, for weights that no file holds."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"
