import json
import os
import random
import subprocess
import sys
import unicodedata

import pytest

from dokja.errors import ConfigError, DataError
from dokja.text.chat import SPECIALS, Segment, render
from dokja.text.tokenizer import Tokenizer, bytes_per_token, bytes_per_token_by_language, train_tokenizer

AWKWARD = [
    "",
    "\x00\x01\x7f\u0080",
    "한글 조합: \u1112\u1161\u11ab, 옛한글 \u114c\u119e\u11f0, 호환 ㄱㅏ, 반각 \uffa1",
    "漢字 \uf900 豈 \U00020000",
    "👩‍👩‍👧 🇰🇷 👍🏽 \U0001fae8",
    "\ue000\U000f0000\U0010ffff\ufdd0\ufffe",
    "e\u0301 \u00e9 \u212b \ufb01 \u0958",
    "tab\t two  spaces   \r\n\n  \u3000\u200b\ufeff end ",
    "12345678901234567890 ٣٤ Ⅷ ½",
    "".join(SPECIALS) * 2,
    "I'll he'S 'tis don't",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_any_text_comes_back_byte_for_byte(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids) == unicodedata.normalize("NFC", text).encode()
    assert b"".join(tokenizer.token_bytes(i) for i in ids) == tokenizer.decode_bytes(ids)


def test_random_code_points_come_back_byte_for_byte(tokenizer):
    rng = random.Random(4)
    ranges = [(0, 0xFF), (0x300, 0x36F), (0x1100, 0x11FF), (0xAC00, 0xD7A3), (0x4E00, 0x9FFF), (0xE000, 0x10FFFF)]
    texts = ["".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(30)) for _ in range(300)]
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert tokenizer.decode_bytes(ids) == unicodedata.normalize("NFC", text).encode()


def test_every_byte_is_a_token(tokenizer):
    single = {tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size) if len(tokenizer.token_bytes(i)) == 1}
    assert single == {bytes([b]) for b in range(256)}


def test_text_that_spells_a_marker_never_becomes_one(tokenizer):
    for name in SPECIALS:
        for text in (name, f"a{name}b", f" {name}\n", name * 3):
            assert min(tokenizer.encode(text)) >= len(SPECIALS)
            assert min(tokenizer.encode_batch([text])[0]) >= len(SPECIALS)
            assert min(tokenizer.encode_segments([Segment(text, False)])[0]) >= len(SPECIALS)


def test_markers_have_the_first_ids_and_no_bytes(tokenizer):
    assert [tokenizer.special_id(name) for name in SPECIALS] == list(range(12))
    assert {tokenizer.token_bytes(i) for i in range(12)} == {b""}
    assert tokenizer.decode([1, 4]) == ""
    assert tokenizer.decode([1, 4], markers=True) == "<|bos|><|user|>"
    with pytest.raises(DataError, match="no marker"):
        tokenizer.special_id("<|nobody|>")


def test_digits_stand_alone(corpus_texts):
    tokenizer = train_tokenizer(corpus_texts + ["2024 2024 2024"] * 1000, 500)
    assert [tokenizer.token_bytes(i) for i in tokenizer.encode("20245")] == [b"2", b"0", b"2", b"4", b"5"]


def test_merges_are_learnt_from_the_texts(tokenizer):
    assert len(tokenizer.encode("The answer is")) == 3
    assert len(tokenizer.encode("얼마입니까")) < len("얼마입니까".encode()) / 3


def test_jamo_and_syllables_get_the_same_ids(tokenizer):
    assert tokenizer.encode(unicodedata.normalize("NFD", "더하기 답은")) == tokenizer.encode("더하기 답은")


def test_a_lone_surrogate_is_refused_with_a_sentence(tokenizer):
    for encode in (tokenizer.encode, lambda t: tokenizer.encode_batch(["가", t]), lambda t: train_tokenizer([t], 300)):
        with pytest.raises(DataError, match=r"U\+DC80 at character 1"):
            encode("a\udc80")


def test_the_same_texts_give_the_same_file_in_another_process(tokenizer, tmp_path):
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; from conftest import corpus;"
        "from dokja.text.tokenizer import train_tokenizer; print(train_tokenizer(corpus(), 600).sha256)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "5"}
    command = [sys.executable, "-c", code, os.path.dirname(__file__)]
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == tokenizer.sha256


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(ConfigError, match=">= 268"):
        train_tokenizer(["a"], 267)
    assert train_tokenizer(["a"], 268).vocab_size == 268


def test_a_small_text_gives_fewer_tokens_than_asked_for():
    assert train_tokenizer(["a b"], 1000).vocab_size == 268


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.sha256 == tokenizer.sha256
    assert again.vocab_size == tokenizer.vocab_size > 268
    assert again.encode_batch(AWKWARD) == tokenizer.encode_batch(AWKWARD)
    again.save(tmp_path / "copy")
    assert (tmp_path / "copy/tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_a_file_that_is_no_tokenizer_of_ours_is_refused_and_named(tokenizer, tmp_path):
    with pytest.raises(DataError, match=r"tokenizer\.json cannot be read"):
        Tokenizer.load(tmp_path)
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[:500], encoding="utf-8")
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)
    path.write_text(whole.replace("<|user|>", "<|human|>"), encoding="utf-8")
    with pytest.raises(DataError, match="markers at ids 0 to 11"):
        Tokenizer.load(tmp_path)
    raw = json.loads(whole)
    raw["model"]["vocab"]["日"] = raw["model"]["vocab"].pop("a")
    raw["model"]["merges"] = []
    with pytest.raises(DataError, match="byte-level"):
        Tokenizer(json.dumps(raw))
    raw["model"]["vocab"]["ab"] = raw["model"]["vocab"].pop("日")
    with pytest.raises(DataError, match="256 bytes"):
        Tokenizer(json.dumps(raw))


def test_conversations_get_the_same_ids_in_a_batch_and_alone(tokenizer, conversation):
    segments = render(*conversation[:1], tools=conversation[1])
    (ids, loss), again = tokenizer.encode_segments_batch([segments, segments])
    assert (ids, loss) == again == tokenizer.encode_segments(segments)
    assert len(ids) == len(loss)
    expected, flags = [], []
    for s in segments:
        part = [tokenizer.special_id(s.text)] if s.special else tokenizer.encode(s.text)
        expected += part
        flags += [int(s.loss)] * len(part)
    assert (ids, loss) == (expected, flags)


def test_bytes_per_token_count_utf8_bytes(tokenizer):
    assert bytes_per_token(tokenizer, ["ZQX", "쀍"]) == 1.0
    assert bytes_per_token(tokenizer, ["\u1108\u1171\u11ae"]) == 1.0  # NFC makes one syllable of three bytes
    rates = bytes_per_token_by_language(tokenizer, [("ko", "답은 3입니다."), ("en", "ZQX"), ("ko", "")])
    assert list(rates) == ["ko", "en"]
    assert rates["en"] == 1.0 < rates["ko"]
    with pytest.raises(DataError, match="no text"):
        bytes_per_token(tokenizer, [""])
