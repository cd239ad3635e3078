"""The gate of smaller artifacts: every stream against its float32 self on held-out items.

Measures and refuses; writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.errors import ExportError
from koine.manifest import Precision, StreamPrecision
from koine.sessions import CPU
from koine.texts import Tokens
from koine.types import ActsND
from training.activations.store import ActivationStore
from training.export.examples import Examples, held_out
from training.export.fidelity import SPEED_BATCH, graph_acts, speed_ratio, support_jaccard
from training.export.precision import PrecisionConfig, backbone_file, stored_acts


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two artifacts of one dictionary and the items to compare them on."""

    full: Artifact
    small: Artifact
    examples: Examples
    store: ActivationStore
    config: PrecisionConfig

    def gate(self, methods: Mapping[str, str]) -> Precision:
        """Every stream's figures. Raises `ExportError` with them where supports are too far off."""
        encoders = tuple(ConceptEncoder(a, providers=[CPU]) for a in (self.full, self.small))
        config = self.config
        streams = {
            name: self._stream(encoders, name, methods.get(name, "heads only"))
            for name in encoders[0].streams
        }
        low = {n: s for n, s in streams.items() if s.support_jaccard < config.at_least}
        if low:
            figures = "; ".join(
                f"`{n}` {s.support_jaccard:.3f} on {s.items} items ({s.method})"
                for n, s in low.items()
            )
            raise ExportError(
                f"supports in {config.kind} are too far from float32's: Jaccard {figures}; at "
                f"least {config.at_least:g} is asked. Nothing was written. Give another "
                "--calibration or a lower --min-jaccard"
            )
        return Precision(kind=config.kind, min_jaccard=config.at_least, streams=streams)

    def _stream(
        self, encoders: tuple[ConceptEncoder, ...], name: str, method: str
    ) -> StreamPrecision:
        entry = self.full.manifest.stream(name)
        assert entry is not None
        split = held_out(self.store)
        if entry.backbone is None:
            acts_ND = stored_acts(self.store, name, self.store.split(split))
            acts_ND = acts_ND[: self.config.measure_on]
            return _figures(encoders, name, method, (acts_ND, acts_ND))
        batches = list(self.examples.batches(name, split, self.config.measure_on))
        files = [backbone_file(artifact, name) for artifact in (self.full, self.small)]
        acts = tuple(graph_acts(file, batches) for file in files)
        first = batches[0]
        if isinstance(first, Tokens):
            batch = Tokens(first.ids_NT[:SPEED_BATCH], first.mask_NT[:SPEED_BATCH])
        else:
            batch = first[:SPEED_BATCH]
        return _figures(encoders, name, method, acts).model_copy(
            update={
                "bytes_fp32": files[0].stat().st_size,
                "bytes": files[1].stat().st_size,
                "speed": round(speed_ratio(files[0], files[1], batch), 2),
            }
        )


def _figures(
    encoders: tuple[ConceptEncoder, ...], name: str, method: str, acts: tuple[ActsND, ...]
) -> StreamPrecision:
    full, small = (
        encoder.encode({name: acts_ND})[name]
        for encoder, acts_ND in zip(encoders, acts, strict=True)
    )
    return StreamPrecision(
        method=method,
        items=len(full.fvu_N),
        support_jaccard=round(support_jaccard(full, small), 4),
        fvu=round(float(small.fvu_N.mean()), 4),
        fvu_fp32=round(float(full.fvu_N.mean()), 4),
        bytes=0,
        bytes_fp32=0,
    )
