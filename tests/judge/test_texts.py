import io
import json
import math
import unicodedata

import pytest
from rich.console import Console

from dokja.data.shards import ShardSet, ShardWriter
from dokja.errors import DataError
from dokja.judge.baselines import ByteNgram, xz_bits_per_byte
from dokja.judge.texts import TEXTS, aggregate, judge_texts
from dokja.model.decoder import Decoder
from dokja.model.families import export
from dokja.model.spec import ModelSpec
from dokja.text.chat import BOS, END
from dokja.text.tokenizer import train_tokenizer

TRAIN = ["the sea is wide and the sky is blue. " * 4, "바다는 넓고 하늘은 푸르다. " * 4] * 3
HELD = {
    "en-sea": ["the sky is wide. ", "the sea is blue and wide. " * 8],
    "ko-sea": ["하늘은 넓고 바다는 푸르다. " * 6, "한글 음절 값"],
    "ko-sky": ["푸른 하늘."],
}
LANGUAGES = {"en-sea": "en", "ko-sea": "ko", "ko-sky": "ko"}
TOKENIZER = train_tokenizer(TRAIN, vocab=320)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A model whose output matrix is zero: every next token is equally likely."""
    folder = tmp_path_factory.mktemp("weights")
    spec = ModelSpec(vocab=320, width=32, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=48, context=32, window=8)
    model = Decoder(spec).init_weights(0)
    export(spec, dict(model.named_parameters()), folder, {"bos": 1, "eos": 2, "pad": 0})
    TOKENIZER.save(folder)
    return folder


def shard(texts, folder, tokenizer=TOKENIZER):
    bos, end = tokenizer.special_id(BOS), tokenizer.special_id(END)
    with ShardWriter(folder, tokenizer.vocab_size, tokenizer_sha256=tokenizer.sha256) as writer:
        for text in texts:
            writer.add([bos, *tokenizer.encode(text), end], utf8_bytes=len(text.encode()))
    return ShardSet.open(folder)


def judge(weights, tmp_path, held=HELD, console=None, **options):
    shards = {name: shard(texts, tmp_path / name) for name, texts in held.items()}
    return judge_texts(
        weights, shards, lambda name: held[name], lambda: iter(TRAIN), LANGUAGES, tmp_path / "judge", 32,
        compile=False, console=console or Console(file=io.StringIO()), **options,
    )  # fmt: skip


def test_a_model_without_preference_pays_log2_of_the_vocabulary_per_token(weights, tmp_path):
    found = judge(weights, tmp_path)
    for name, texts in HELD.items():
        size = sum(len(t.encode()) for t in texts)
        targets = sum(len(TOKENIZER.encode(t)) + 1 for t in texts)  # and the end of each document
        assert found["sources"][name]["bytes"] == size
        assert found["sources"][name]["model"] == pytest.approx(targets * math.log2(320) / size, rel=1e-5)


def test_baselines_read_the_same_bytes(weights, tmp_path):
    found = judge(weights, tmp_path)["sources"]
    ngram = ByteNgram.train([t.encode() for t in TRAIN])
    for name, texts in HELD.items():
        data = [t.encode() for t in texts]
        assert found[name]["xz"] == pytest.approx(xz_bits_per_byte(b"".join(data)))
        assert found[name]["ngram"] == pytest.approx(ngram.bits(data) / sum(map(len, data)))


def test_languages_weigh_sources_by_their_bytes(weights, tmp_path):
    found = judge(weights, tmp_path)
    a, b, ko = found["sources"]["ko-sea"], found["sources"]["ko-sky"], found["languages"]["ko"]
    assert ko["bytes"] == a["bytes"] + b["bytes"]
    for key in ("model", "xz", "ngram"):
        assert ko[key] == pytest.approx((a[key] * a["bytes"] + b[key] * b["bytes"]) / ko["bytes"])
        assert min(a[key], b[key]) < ko[key] < max(a[key], b[key])
    assert found["all"]["bytes"] == sum(row["bytes"] for row in found["sources"].values())


def test_a_source_without_language_counts_in_the_whole_only():
    row = {"bytes": 10, "model": 1.0, "xz": 2.0, "ngram": 3.0}
    found = aggregate({"a": row | {"language": None}, "b": row | {"language": "en", "bytes": 30, "model": 2.0}})
    assert list(found["languages"]) == ["en"] and found["languages"]["en"]["model"] == 2.0
    assert found["all"]["model"] == pytest.approx(1.75)


def test_the_file_holds_what_is_returned_and_the_table_shows_it(weights, tmp_path):
    out = io.StringIO()
    found = judge(weights, tmp_path, console=Console(file=out, width=100))
    assert json.loads((tmp_path / "judge" / TEXTS).read_text(encoding="utf-8")) == found
    for name, row in found["sources"].items():
        assert name in out.getvalue() and f"{row['ngram']:.3f}" in out.getvalue()


def test_decomposed_hangul_counts_as_the_composed_bytes_the_model_reads(weights, tmp_path):
    text = "하늘은 넓다"
    found = judge(weights, tmp_path, {"ko-sky": [unicodedata.normalize("NFD", text)]})
    assert found["sources"]["ko-sky"]["bytes"] == len(text.encode())


def test_the_ngram_stops_counting_at_its_limit(weights, tmp_path):
    whole = judge(weights, tmp_path / "a")["settings"]["ngram_training_bytes"]
    part = judge(weights, tmp_path / "b", ngram_mb=150e-6)["settings"]["ngram_training_bytes"]
    assert whole == sum(len(t.encode()) for t in TRAIN)
    assert part == len(TRAIN[0].encode()) + len(TRAIN[1].encode())


def test_texts_that_are_not_those_of_the_shards_are_refused(weights, tmp_path):
    shards = {"en-sea": shard(HELD["en-sea"], tmp_path / "s")}
    with pytest.raises(DataError, match="not the same documents"):
        judge_texts(weights, shards, lambda n: ["other"], lambda: TRAIN, LANGUAGES, tmp_path, 32, compile=False)
    other = train_tokenizer(TRAIN, vocab=300)
    shards = {"en-sea": shard(HELD["en-sea"], tmp_path / "t", other)}
    with pytest.raises(DataError, match="another tokenizer"):
        judge_texts(weights, shards, lambda n: HELD[n], lambda: TRAIN, LANGUAGES, tmp_path, 32, compile=False)
    assert not (tmp_path / TEXTS).exists()


def test_sources_without_text_are_left_out(weights, tmp_path):
    found = judge(weights, tmp_path, {"en-sea": HELD["en-sea"], "ko-sky": []})
    assert list(found["sources"]) == ["en-sea"]
    empty = judge(weights, tmp_path / "none", {})
    assert empty["sources"] == {} and empty["all"]["bytes"] == 0
