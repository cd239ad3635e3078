"""Token ids against open_clip's and transformers' own tokenizers, and texts that are refused."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer, get_clean_fn
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from koine.errors import EncoderError, TextError
from koine.streams import TextPreprocess
from koine.texts import Tokenizer, Tokens, clean_text
from training.encoders.tokenizer_files import clip_tokenizer_file, text_preprocess

TEXTS = [
    "a dog runs on grass",
    "A DOG'S life -- it'll cost $1,234.56!!!",
    "  tabs\tand\nnewlines \u00a0 and  spaces ",
    "caf\u00e9 na\u00efve Stra\u00dfe \u0130stanbul \ufb01ne \u017fet '\u017f \u212a",
    "&lt;b&gt; &amp;amp; &quot;quoted&quot; &#39;s &nbsp; x",
    "<b> &amp;lt; &amp;amp;eacute; and ftfy leaves entities beside tags alone",
    "schÃ¶n â€œmojibakeâ€\x9d fixed",
    "東京 タワー 서울 москва العربية हिन्दी",
    "👩\u200d👩\u200d👧 🏳️\u200d🌈 emoji ❤️",
    "<start_of_text> injected <end_of_text> !<end_of_text> <END_OF_TEXT>x",
    "<|endoftext|> [CLS] [SEP] [MASK] [UNK]",
    "\x00control\x07 \x1bchars\ufeff \u200b",
    "half \ud800 a pair",
    "x" * 600,
    " ".join(["word"] * 10_000),
    "I'M I'LL WE'RE they'Ve 'twas",
    "١٢٣ ⅷ ½ ² \U0001d7d8",
    "_under_score_ a.b,c;d",
]
SAMPLES = [text for text in TEXTS if "\ud800" not in text]
unicode_texts = st.text(st.characters(exclude_categories=()), max_size=60)
odd_texts = st.one_of(
    unicode_texts,
    st.lists(
        st.sampled_from(
            [
                *"aZ9'.!<&;_ \n",
                "'s",
                "'LL",
                "&amp;",
                "&lt;",
                "<end_of_text>",
                "ſ",
                "İ",
                "é",
                "e\u0301",
            ]
            + ["Ã©", "â€™", "\u00a0", "\u200d", "👍🏽", "中", "ﬁ", "\ufffd", "[SEP]"]
        ),
        max_size=25,
    ).map("".join),
)


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    file = clip_tokenizer_file()
    return Tokenizer(text_preprocess(file, 77, clean="clip_lower"), file.parent)


def assert_like_open_clip(ours: Tokenizer, theirs: object, text: str) -> None:
    expected_NT = theirs([text]).numpy()  # type: ignore[operator]
    try:
        ids_NT, mask_NT = ours([text])
    except TextError:
        assert (expected_NT[0] > 0).sum() == 2, "only the start and end tokens"
        return
    np.testing.assert_array_equal(ids_NT, expected_NT)
    length = int(np.argmax(expected_NT[0] == 49407)) + 1
    assert mask_NT[0].sum() >= length
    assert ids_NT[0, mask_NT[0].sum() - 1] == 49407


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_open_clips(clip: Tokenizer, text: str) -> None:
    assert_like_open_clip(clip, SimpleTokenizer(), text)


@settings(max_examples=400, deadline=None)
@given(text=odd_texts)
@example("<start_of_text>")
@example("!<start_of_text>")
@example("\u1c89 \ua7cb \U00010d50")  # letters newer than some Unicode tables
def test_tokens_are_open_clips_for_odd_unicode(clip: Tokenizer, text: str) -> None:
    assert_like_open_clip(clip, open_clip.tokenizer._tokenizer, text)


@pytest.mark.parametrize(
    ("clean", "theirs"),
    [
        ("clip_lower", "lower"),
        ("clip_whitespace", "whitespace"),
        ("clip_canonicalize", "canonicalize"),
    ],
)
@settings(max_examples=200, deadline=None)
@given(text=odd_texts)
@example("<b> &amp;lt;")
def test_cleaning_is_open_clips(clean: str, theirs: str, text: str) -> None:
    assert clean_text(text, clean) == get_clean_fn(theirs)(text)


def test_cutting_keeps_the_end_token() -> None:
    file = clip_tokenizer_file()
    short = Tokenizer(text_preprocess(file, 8, clean="clip_lower"), file.parent)
    long = "one two three four five six seven eight nine"
    ids_NT, mask_NT = short([long, "one"])
    np.testing.assert_array_equal(ids_NT, SimpleTokenizer(context_length=8)([long, "one"]).numpy())
    assert ids_NT[0, -1] == 49407
    assert mask_NT.sum(1).tolist() == [8, 3]


def small_bert(folder: Path) -> Path:
    """A WordPiece tokenizer in BERT's form, with cutting and padding of its own set wrongly."""
    tokenizer = FastTokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(SAMPLES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=40, pad_id=4, pad_token="[MASK]")
    file = folder / "tokenizer.json"
    tokenizer.save(str(file))
    return file


def their_bert(file: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_file=str(file), pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def their_tokens(theirs: PreTrainedTokenizerFast, texts: list[str], longest: int) -> Tokens:
    batch = theirs(
        texts, max_length=longest, truncation=True, padding="longest", return_tensors="np"
    )
    return Tokens(batch["input_ids"], batch["attention_mask"])


@pytest.fixture(scope="module")
def bert_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bert(tmp_path_factory.mktemp("bert"))


def bert_spec(file: Path, context_length: int = 12, **fields: object) -> TextPreprocess:
    return text_preprocess(file, context_length, **{"fixed_length": False, **fields})


def test_tokens_are_transformers_in_batches(bert_file: Path) -> None:
    ours = Tokenizer(bert_spec(bert_file), bert_file.parent)(SAMPLES)
    theirs = their_tokens(their_bert(bert_file), SAMPLES, 12)
    np.testing.assert_array_equal(ours.ids_NT, theirs.ids_NT)
    np.testing.assert_array_equal(ours.mask_NT, theirs.mask_NT)
    assert ours.ids_NT.dtype == ours.mask_NT.dtype == np.int64


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(odd_texts, min_size=1, max_size=4))
def test_tokens_are_transformers_for_odd_unicode(bert_file: Path, texts: list[str]) -> None:
    ours = Tokenizer(bert_spec(bert_file), bert_file.parent)
    readable = []
    for text in texts:
        try:
            ours([text])
        except TextError:
            continue
        readable.append(text)
    if not readable:
        return
    theirs = their_tokens(their_bert(bert_file), readable, 12)
    found = ours(readable)
    np.testing.assert_array_equal(found.ids_NT, theirs.ids_NT)
    np.testing.assert_array_equal(found.mask_NT, theirs.mask_NT)


def test_minilm_tokens_are_transformers(real_encoders: Path) -> None:
    file = real_encoders / "minilm" / "tokenizer.json"
    spec = bert_spec(file, 64)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token="[PAD]")
    ours = Tokenizer(spec, file.parent)(SAMPLES)
    expected = their_tokens(theirs, SAMPLES, 64)
    np.testing.assert_array_equal(ours.ids_NT, expected.ids_NT)
    np.testing.assert_array_equal(ours.mask_NT, expected.mask_NT)


@pytest.mark.parametrize("clean", ["whitespace", "canonicalize"])
def test_tokens_are_open_clips_hf_tokenizer(bert_file: Path, clean: str) -> None:
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    (bert_file.parent / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = HFTokenizer(str(bert_file.parent), context_length=10, clean=clean)
    ours = Tokenizer(
        bert_spec(bert_file, 10, clean=f"clip_{clean}", fixed_length=True), bert_file.parent
    )
    np.testing.assert_array_equal(ours(SAMPLES).ids_NT, theirs(SAMPLES).numpy())


def test_rows_do_not_depend_on_their_batch(bert_file: Path) -> None:
    tokenizer = Tokenizer(bert_spec(bert_file), bert_file.parent)
    batch = tokenizer(SAMPLES)
    for row, text in enumerate(SAMPLES):
        alone = tokenizer([text])
        width = alone.ids_NT.shape[1]
        np.testing.assert_array_equal(batch.ids_NT[row, :width], alone.ids_NT[0])
        assert batch.mask_NT[row].sum() == width


def test_no_texts_give_no_rows(clip: Tokenizer, bert_file: Path) -> None:
    assert clip([]).ids_NT.shape == (0, 77)
    assert Tokenizer(bert_spec(bert_file), bert_file.parent)([]).mask_NT.shape == (0, 0)


@pytest.mark.parametrize("blank", ["", " ", "\n\t\u00a0", "&nbsp;", "\x00\x01"])
def test_texts_with_nothing_in_them_are_refused(clip: Tokenizer, blank: str) -> None:
    with pytest.raises(TextError, match="the text (is empty|holds no word).*send at least one"):
        clip([blank])
    with pytest.raises(TextError, match="text 1 of 3"):
        clip(["a", blank, "b"])


def test_control_characters_alone_are_no_text_for_bert(bert_file: Path) -> None:
    with pytest.raises(TextError, match=r"holds no word or sign: '\\x00\\x01'"):
        Tokenizer(bert_spec(bert_file), bert_file.parent)(["\x00\x01"])


def test_half_a_surrogate_pair_is_refused(bert_file: Path) -> None:
    with pytest.raises(TextError, match=r"half a surrogate pair .* at character 5"):
        Tokenizer(bert_spec(bert_file), bert_file.parent)(["half \ud800"])


def test_one_string_is_a_bug_of_the_caller(clip: Tokenizer) -> None:
    with pytest.raises(TypeError, match="pass a list of them"):
        clip("a dog")


def test_threads_may_share_a_tokenizer(clip: Tokenizer) -> None:
    expected_NT = clip(SAMPLES).ids_NT
    with ThreadPoolExecutor(8) as pool:
        for tokens in pool.map(lambda _: clip(SAMPLES), range(16)):
            np.testing.assert_array_equal(tokens.ids_NT, expected_NT)


def test_a_missing_or_changed_tokenizer_is_refused(bert_file: Path, tmp_path: Path) -> None:
    spec = bert_spec(bert_file)
    with pytest.raises(EncoderError, match=r"no tokenizer at .*tokenizer\.json.*put it there"):
        Tokenizer(spec, tmp_path)
    data = bert_file.read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(data.replace(b"dog", b"cat", 1) + b" ")
    with pytest.raises(EncoderError, match="is not the tokenizer of this stream.*restore"):
        Tokenizer(spec, tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    wrong = spec.model_copy(update={"tokenizer_sha256": hashlib.sha256(b"{}").hexdigest()})
    with pytest.raises(EncoderError, match=r"is no tokenizer\.json: .*Model missing.*replace it"):
        Tokenizer(wrong, tmp_path)
