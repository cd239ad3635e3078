"""What an artifact says of itself: `manifest.json` as data; opens no file."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator, model_validator

from koine.streams import EncoderIdentity, Spec, StreamSpec, TextPreprocess

FORMAT_VERSION = 1
"""The artifact format that this Koine reads and writes."""

MANIFEST = "manifest.json"
DECODERS = "decoders.safetensors"
CONCEPTS = "concepts.jsonl"
EXEMPLARS = "exemplars.zip"
"""Thumbnails of exemplars; not every artifact has them."""
PROFILE = "profile/reference.safetensors"
JOINT_HEAD = "heads/joint.onnx"
DIRECTIONS = "localisers/directions.safetensors"
"""By stream with a localiser, `encoder rows · scale` [C, D]; not every artifact has it."""
CARD = "README.md"

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_file_name(name: str) -> bool:
    """Whether it names a plain path inside the artifact."""
    return _FILE_NAME.fullmatch(name) is not None


class FileEntry(Spec):
    """One file of the artifact, as it was written."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Localiser(Spec):
    """What splits an image stream's activations over patches."""

    graph: str
    """ONNX graph: images → `patches` [N, (side / moves)², D], whose mean is the activations."""
    side: int = Field(gt=0)
    """Patches along each side of the crop, those of moved images among them; rows first."""
    moves: int = Field(default=1, gt=0)
    """How often an image is moved along each side (`koine/shift_and_stitch.py`)."""
    stride: int = Field(default=0, ge=0)
    """Pixels along a side of the graph's own patch; needed where images are moved."""

    @model_validator(mode="after")
    def _moves_fit(self) -> Localiser:
        if self.side % self.moves or not (self.moves == 1 or self.moves <= self.stride):
            raise ValueError(
                f"{self.moves} moves fit no map of {self.side} patches a side and a stride of "
                f"{self.stride} pixels"
            )
        return self


class ArtifactStream(Spec):
    """One stream of the artifact and the files that compute it."""

    spec: StreamSpec
    normalisation: Literal["unit", "unit_centred"]
    """`unit`: rows brought to unit norm; `unit_centred`: then centred and scaled
    (`<stream>.shift` and `.scale` of the decoders)."""
    head: str
    """ONNX graph: activations → codes, selected by this stream alone."""
    backbone: str | None = None
    """ONNX graph: images or tokens → activations; None for imported activations."""
    localiser: Localiser | None = None
    """None where the encoder is missing, reads no images, or pools in a way that does not split."""


class Selection(Spec):
    """How the graphs choose the active concepts; those chosen with value 0 are inactive."""

    independent: Literal["own_topk"] = "own_topk"
    """The k largest scores of the stream: its pre-codes, or what its selector makes of them."""
    joint: Literal["summed_topk", "own_topk"] = "summed_topk"
    """`summed_topk`: the k largest sums of scores over the item's present streams;
    `own_topk`: each stream alone, for dictionaries trained without a shared support."""


class Lineage(Spec):
    """How an extended dictionary came from another: everything of that one is in it, unchanged."""

    parent: str
    """`sha256:` of the weights that were extended, the parent run's `model.safetensors`."""
    artifact: str | None = None
    """`sha256:` of the manifest of the artifact exported from them; None where there was none."""
    stream: str
    """The stream that joined."""
    pairs: int = Field(gt=0)
    """Items that it was fitted on, those included that its penalties and step were chosen on."""
    store: str
    """`sha256:` of their activation store's `store.json`."""


class Provenance(Spec):
    """Where the dictionary comes from; None where it is not known."""

    recipe: str | None = None
    seed: int | None = None
    steps: int | None = None
    store: str | None = None
    """`sha256:` of the activation store's `store.json`."""
    adopted: str | None = None
    """`sha256:` of the checkpoint that the weights are from, if they were not fitted here."""
    commit: str | None = None
    """Git commit of the code that exported."""
    versions: dict[str, str] = {}
    """Versions of Python and of the libraries that made the weights and graphs."""
    lineage: Lineage | None = None
    """None for a dictionary whose streams were fitted together."""


class StreamPrecision(Spec):
    """How one stream's graphs were made smaller, and what that changed on held-out items."""

    method: str
    """In words: how its backbone was quantised and which layers stayed in float32."""
    items: int = Field(gt=0)
    """Held-out items that were compared."""
    support_jaccard: float = Field(ge=0, le=1)
    """|A∩B| / |A∪B| of each item's active concepts here and in float32, averaged."""
    fvu: float
    """Mean over the items."""
    fvu_fp32: float
    bytes: int = Field(ge=0)
    """Of the backbone's graph; 0 for imported activations."""
    bytes_fp32: int = Field(ge=0)
    speed: float | None = None
    """Float32's time per batch of 8 on one thread over this backbone's, interleaved."""


class Precision(Spec):
    """The numbers that an artifact's graphs store, where they are not float32."""

    kind: Literal["fp16", "int8"]
    min_jaccard: float = Field(ge=0, le=1)
    """What the export asked of every stream."""
    streams: dict[str, StreamPrecision]


class Distilled(Spec):
    """What a student backbone learnt from, and how near it comes on held-out items."""

    teacher: EncoderIdentity
    student: str
    """Its architecture."""
    items: int = Field(gt=0)
    """Training items that it learnt from."""
    steps: int = Field(ge=0)
    seed: int
    parameters: int
    parameters_teacher: int
    metrics: dict[str, float]
    """Against the teacher's codes; keys as in the run's `distill.json`."""


class Manifest(Spec):
    """`manifest.json`: the artifact's description and the hash of every other file in it."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str
    version: str
    num_concepts: int = Field(gt=0)
    k: int = Field(gt=0)
    method: Literal["koine", "sparc"]
    """How the dictionary was trained."""
    streams: tuple[ArtifactStream, ...] = Field(min_length=1)
    """Their order is the order of the columns of `present_NS`."""
    selection: Selection
    files: dict[str, FileEntry]
    """By path relative to the artifact, `/` between folders; all but the manifest itself."""
    training: Provenance = Provenance()
    metrics: dict[str, float] = {}
    """Main figures of the run's report, keys as in it, joined by dots; empty if not evaluated."""
    precision: Precision | None = None
    """None: float32 throughout."""
    distilled: dict[str, Distilled] = {}
    """By stream whose backbone is a student."""
    created: datetime

    @field_validator("name", "version")
    @classmethod
    def _plain(cls, text: str) -> str:
        if not _NAME.fullmatch(text):
            raise ValueError(f"{text!r}: use letters, digits, `.`, `_` and `-` (at most 128)")
        return text

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for name in files:
            if not is_file_name(name):
                raise ValueError(f"file name {name!r} is not a plain path inside the artifact")
        if MANIFEST in files:
            raise ValueError(f"{MANIFEST} cannot list itself")
        return files

    @model_validator(mode="after")
    def _complete(self) -> Manifest:
        if self.k > self.num_concepts:
            raise ValueError(f"`k` {self.k} is larger than `num_concepts` {self.num_concepts}")
        names = [stream.spec.name for stream in self.streams]
        if len(set(names)) < len(names):
            raise ValueError(f"stream names repeat: {', '.join(names)}")
        for name in self._needed():
            if name not in self.files:
                raise ValueError(f"{name} is needed but not listed in `files`")
        return self

    def _needed(self) -> list[str]:
        needed = [JOINT_HEAD, DECODERS, CONCEPTS, PROFILE, CARD]
        for stream in self.streams:
            needed += [stream.head, *([stream.backbone] if stream.backbone else [])]
            if stream.localiser:
                needed += [stream.localiser.graph, DIRECTIONS]
            if isinstance(stream.spec.preprocess, TextPreprocess):
                needed.append(stream.spec.preprocess.tokenizer)
        return needed

    @property
    def title(self) -> str:
        """`name@version`, what answers carry as `dictionary`."""
        return f"{self.name}@{self.version}"

    def stream(self, name: str) -> ArtifactStream | None:
        """The stream called `name`, None if there is none."""
        return next((s for s in self.streams if s.spec.name == name), None)
