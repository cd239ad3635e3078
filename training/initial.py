"""The untrained dictionary that a fit starts from; takes no step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from koine.streams import StreamSpec
from training.activations.store import ActivationStore
from training.components import set_bases
from training.configs import FitConfig, SelectorConfig
from training.model import AlignedDictionary, ModelConfig
from training.statistics import stream_statistics


def initial_model(store: ActivationStore, config: FitConfig) -> AlignedDictionary:
    """The untrained dictionary that `fit` starts from: seeded weights, the store's statistics."""
    torch.manual_seed(config.seed)
    shape = ModelConfig(
        num_concepts=config.num_concepts,
        k=config.k,
        selection=config.selection,
        selector=config.selector,
    )
    model = AlignedDictionary(shape, {stream.name: stream.d_in for stream in store.streams})
    for name, statistics in stream_statistics(store).items():
        stream = model.of(name)
        stream.mean_D.copy_(torch.from_numpy(statistics.mean_D))
        if config.standardise:
            stream.shift_D.copy_(stream.mean_D)
            stream.scale.fill_(statistics.variance**-0.5)
    if config.selector is not None:
        set_lone_weights(model, config.selector, store.streams)
        set_bases(model, store)
    return model


def set_lone_weights(
    model: AlignedDictionary, config: SelectorConfig, streams: Sequence[StreamSpec]
) -> None:
    """More weight on the pre-codes of streams that are alone in their modality."""
    modality = {stream.name: stream.modality for stream in streams}
    for name in model.streams:
        if list(modality.values()).count(modality[name]) == 1:
            model.selector_of(name).pre_code_weight *= config.lone_factor
