"""transformers' text models give what transformers' own tokenizer and model give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from koine.errors import EncoderError
from koine.streams import TextPreprocess
from koine.texts import Tokens
from tests.koine.test_texts import small_bert
from tests.training.encoders.conftest import CAPTIONS
from training.encoders import Encoder, EncoderConfig, load_encoder
from training.recipes import photos

TOLERANCE = 1e-5
"""Batched and single float32 sums differ by their order; vectors have norm 1."""


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random half-precision weights, in transformers' format."""
    folder = tmp_path_factory.mktemp("texts") / "small-bert"
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=300,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=40,
        )
    )
    model.half().save_pretrained(folder)
    small_bert(folder)
    stated = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 30}
    stated |= {
        "pad_token": {"content": "[PAD]", "__type": "AddedToken"},
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    return folder


def config(weights: str, **fields: Any) -> EncoderConfig:
    return EncoderConfig(
        kind="transformers", modality="text", name="small-bert", weights=weights, **fields
    )  # type: ignore[arg-type]


def check(encoder: Encoder, folder: Path, texts: list[str], longest: int) -> None:
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(
        texts, padding="longest", truncation=True, max_length=longest, return_tensors="pt"
    )
    found = encoder.prepare(texts)
    assert isinstance(found, Tokens)
    np.testing.assert_array_equal(found.ids_NT, batch["input_ids"].numpy())
    np.testing.assert_array_equal(found.mask_NT, batch["attention_mask"].numpy())
    with torch.inference_mode():
        hidden_NTD = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).float()
    means = {
        "mean": (hidden_NTD * mask).sum(1) / mask.sum(1),
        "cls": hidden_NTD[:, 0],
    }[encoder.identity.pooling]
    expected_ND = torch.nn.functional.normalize(means, dim=-1).numpy()
    np.testing.assert_allclose(encoder.activations(found), expected_ND, atol=TOLERANCE)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_activations_are_transformers(bert_folder: Path, pooling: str) -> None:
    encoder = load_encoder(config("small-bert", pooling=pooling), bert_folder.parent)
    check(encoder, bert_folder, CAPTIONS, 30)
    assert encoder.d_in == 32
    assert isinstance(encoder.preprocess, TextPreprocess)
    assert encoder.preprocess.context_length == 30
    assert not encoder.preprocess.fixed_length


def test_minilm_is_transformers(real_encoders: Path) -> None:
    encoder = load_encoder(photos().streams["minilm"], real_encoders)
    check(encoder, real_encoders / "minilm", CAPTIONS, 64)
    texts = ["a dog runs on grass", "a puppy playing in a field", "a man in a suit"]
    acts_ND = encoder.activations(encoder.prepare(texts))
    np.testing.assert_allclose(np.linalg.norm(acts_ND, axis=1), 1, atol=TOLERANCE)
    # As published beside the weights, to the digits given there.
    assert acts_ND[0] @ acts_ND[1] == pytest.approx(0.52, abs=0.01)
    assert acts_ND[0] @ acts_ND[2] == pytest.approx(-0.04, abs=0.01)


def test_padding_changes_nothing(bert_folder: Path) -> None:
    encoder = load_encoder(config(str(bert_folder)))
    together = encoder.activations(encoder.prepare(CAPTIONS))
    for row, text in enumerate(CAPTIONS):
        alone = encoder.activations(encoder.prepare([text]))[0]
        np.testing.assert_allclose(together[row], alone, atol=TOLERANCE)


def test_more_tokens_than_positions_are_refused(bert_folder: Path) -> None:
    with pytest.raises(EncoderError, match="at most 30 tokens, the recipe says 64; lower"):
        load_encoder(config(str(bert_folder), context_length=64))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(bert_folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(bert_folder, tmp_path / "part")
    (tmp_path / "part" / name).unlink()
    with pytest.raises(EncoderError, match=rf"{name}.*put (one there|the model's {name})"):
        load_encoder(config("part"), tmp_path)


def test_missing_tensors_are_not_made_up(bert_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bert_folder, tmp_path / "part")
    weights = load_file(bert_folder / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, tmp_path / "part" / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match=r"lacks weights .*encoder\.layer\.0\.output.*1 in all"):
        load_encoder(config("part"), tmp_path)
