"""What a baseline takes from the run that it is compared with, and what it names itself."""

from __future__ import annotations

import dataclasses

from training.configs import FitConfig
from training.evaluation.controls import CONTROLS, INHERITED, baseline_config


def test_baselines_name_every_setting_that_is_not_inherited() -> None:
    fields = {field.name for field in dataclasses.fields(FitConfig)}
    for name, control in CONTROLS.items():
        named = {*INHERITED, *control.settings}
        # SPARC never resamples, so until when says nothing
        assert fields - named <= ({"resample_until"} if name == "sparc" else set()), name
        assert named <= fields


def test_baselines_take_sizes_and_no_method_from_the_run() -> None:
    strange = FitConfig(
        num_concepts=99,
        k=9,
        seed=5,
        lr=0.5,
        steps=3,
        batch_size=8,
        cross_weight=7.0,
        stream_dropout=0.9,
        standardise=False,
        auxk_weight=0.0,
    )
    for name, control in CONTROLS.items():
        config = baseline_config(name, strange)
        assert (config.num_concepts, config.k, config.seed, config.lr) == (99, 9, 5, 0.5)
        assert config.cross_weight in (0.0, 1.0)
        assert config.stream_dropout in (0.0, 0.5)
        for setting, value in control.settings.items():
            if setting not in INHERITED:
                assert getattr(config, setting) == value
