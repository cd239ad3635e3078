"""From images, texts or activations to codes: what the service and the export gate both run.

Checks what it is given and calls the graphs; decodes no bytes and knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from koine.artifact import Artifact
from koine.codes import Codes
from koine.errors import ActivationsError, InputError, UnknownStreamError
from koine.heads import Heads, pad_absent
from koine.images import preprocess_image
from koine.sessions import Session, choose_providers
from koine.streams import ImagePreprocess, StreamSpec, TextPreprocess
from koine.texts import Tokenizer, Tokens
from koine.types import ActsND, ImageHWC, ImagesNHWC, Mode, PresentNS


class ConceptEncoder:
    """An artifact, loaded and ready to encode. Safe to call from several threads."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        providers: Sequence[str] | None = None,
        threads: int = 0,
        gpu: int = 0,
    ) -> None:
        """Loads every graph of `artifact`.

        `providers`: ONNX Runtime execution providers, None takes CUDA where there is a GPU and
        CPU otherwise; the first one given must load. `threads`: per graph, 0 means all cores.
        `gpu`: which of the visible GPUs.
        Raises `ArtifactError` for a graph that does not load, `EncoderError` for a provider.
        """
        self.artifact = artifact
        manifest = artifact.manifest
        self.streams: dict[str, StreamSpec] = {s.spec.name: s.spec for s in manifest.streams}
        self.num_concepts = manifest.num_concepts
        self.k = manifest.k
        chosen, required = choose_providers(providers), providers is not None
        self._heads = Heads(
            artifact.path,
            {s.spec.name: s.head for s in manifest.streams},
            {name: spec.d_in for name, spec in self.streams.items()},
            chosen,
            threads=threads,
            required=required,
            gpu=gpu,
        )
        self._backbones = {
            s.spec.name: Session(
                artifact.path / s.backbone, chosen, threads=threads, required=required, gpu=gpu
            )
            for s in manifest.streams
            if s.backbone is not None
        }
        self._tokenizers = {
            name: Tokenizer(spec.preprocess, artifact.path)
            for name, spec in self.streams.items()
            if isinstance(spec.preprocess, TextPreprocess)
        }

    @property
    def provider(self) -> str:
        """The ONNX Runtime execution provider that runs the graphs."""
        return self._heads.provider

    def preprocess(self, stream: str, image: Image.Image) -> ImageHWC:
        """The array that the stream's backbone reads."""
        spec = self._spec(stream).preprocess
        if not isinstance(spec, ImagePreprocess):
            raise self._not_for("images", stream)
        return preprocess_image(image, spec)

    def tokenize(self, stream: str, texts: Sequence[str]) -> Tokens:
        """The token ids and mask that the stream's backbone reads."""
        self._spec(stream)
        if stream not in self._tokenizers:
            raise self._not_for("texts", stream)
        return self._tokenizers[stream](texts)

    def activations(self, stream: str, batch: ImagesNHWC | Tokens) -> ActsND:
        """The backbone's pooled output for a batch that `preprocess` or `tokenize` made."""
        spec = self._spec(stream)
        what = "texts" if isinstance(batch, Tokens) else "images"
        if stream not in self._backbones or spec.modality != what.removesuffix("s"):
            raise self._not_for(what, stream)
        if isinstance(batch, Tokens):
            inputs = {"input_ids": batch.ids_NT, "attention_mask": batch.mask_NT}
        else:
            inputs = {"image": batch}
        return self._backbones[stream].run(inputs)["acts"]

    def encode(
        self,
        acts: Mapping[str, ActsND],
        mode: Mode = "independent",
        present_NS: PresentNS | None = None,
    ) -> dict[str, Codes]:
        """Codes of each stream in `acts`, which has one row per item.

        `present_NS` says which items have which stream, columns as in `streams`; None means that
        every item has every stream of `acts`. Where an item lacks a stream its row is ignored and
        its codes are all pads with fvu NaN. Raises `ActivationsError`, `UnknownStreamError`.
        """
        present_NS = self._present(acts, present_NS)
        columns = {name: present_NS[:, i] for i, name in enumerate(self.streams)}
        checked = {name: self._checked(name, a, columns[name]) for name, a in acts.items()}
        if mode == "joint":
            codes = self._heads.joint(checked, present_NS)
            return {name: codes[name] for name in acts}
        return {
            name: pad_absent(self._heads.independent(name, a), columns[name])
            for name, a in checked.items()
        }

    def warm_up(self) -> None:
        """Runs every graph once, so that the first request does not pay for it."""
        acts: dict[str, ActsND] = {}
        for name, spec in self.streams.items():
            acts[name] = np.ones((1, spec.d_in), np.float32)
            if isinstance(spec.preprocess, TextPreprocess):
                self.activations(name, self.tokenize(name, ["a"]))
            elif isinstance(spec.preprocess, ImagePreprocess):
                side = spec.preprocess.crop_size
                self.activations(name, np.zeros((1, side, side, 3), np.uint8))
        self.encode(acts, "independent")
        self.encode(acts, "joint")

    def _spec(self, stream: str) -> StreamSpec:
        if stream not in self.streams:
            raise UnknownStreamError(
                f"{stream!r} is no stream of this dictionary; it has {', '.join(self.streams)}"
            )
        return self.streams[stream]

    def _not_for(self, what: str, stream: str) -> InputError:
        if stream not in self._backbones:
            return InputError(
                f"stream `{stream}` has no backbone here, so it cannot read {what}; send its "
                "activations"
            )
        return InputError(f"stream `{stream}` reads {self.streams[stream].modality}s, not {what}")

    def _present(self, acts: Mapping[str, ActsND], present_NS: PresentNS | None) -> PresentNS:
        if not acts:
            raise ActivationsError("no activations were given; give those of at least one stream")
        for name in acts:
            self._spec(name)
        lengths = {name: len(a) for name, a in acts.items()}
        n = next(iter(lengths.values()))
        if len(set(lengths.values())) > 1:
            raise ActivationsError(f"streams need one row per item each, got rows {lengths}")
        if present_NS is None:
            given = np.array([name in acts for name in self.streams])
            return np.tile(given, (n, 1))
        if present_NS.shape != (n, len(self.streams)):
            raise ActivationsError(
                f"`present_NS` must be {n} items x {len(self.streams)} streams, got "
                f"{present_NS.shape}"
            )
        for i, name in enumerate(self.streams):
            if name not in acts and present_NS[:, i].any():
                raise ActivationsError(f"items have stream `{name}` but no activations of it")
        return present_NS

    def _checked(self, name: str, acts_ND: ActsND, present_N: np.ndarray) -> ActsND:
        """The activations with zeros where absent, if they can be encoded."""
        d_in = self.streams[name].d_in
        if acts_ND.ndim != 2 or acts_ND.shape[1] != d_in:
            raise ActivationsError(
                f"stream `{name}` takes {d_in} activations per item, got shape {acts_ND.shape}"
            )
        if acts_ND.dtype != np.float32:
            raise ActivationsError(f"stream `{name}` takes float32, got {acts_ND.dtype}")
        acts_ND = np.where(present_N[:, None], acts_ND, np.float32(0))
        with np.errstate(over="ignore", invalid="ignore"):
            squares_N = np.einsum("nd,nd->n", acts_ND, acts_ND)
        bad_M = np.flatnonzero(~np.isfinite(squares_N))
        if len(bad_M):
            row = int(bad_M[0])
            odd = int((~np.isfinite(acts_ND[row])).sum())
            what = f"{odd} values that are NaN or infinite" if odd else "values too large to square"
            raise ActivationsError(f"row {row} of stream `{name}` has {what}")
        return acts_ND
