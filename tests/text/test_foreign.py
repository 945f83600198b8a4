"""Tokenizers of other models beside transformers, which reads the same file."""

import json
import re

import pytest
import tokenizers
from official_small import CORPUS, SPECIALS, source, tokenizer
from tokenizers import models, pre_tokenizers, trainers

from dokja.errors import DataError
from dokja.text.chat import Message, Segment, text_of
from dokja.text.styles import STYLES
from dokja.text.tokenizer import Tokenizer, train_tokenizer

transformers = pytest.importorskip("transformers")
NAMES = list(SPECIALS)
AWKWARD = [
    "",
    "12345 더하기 678은? I'll add, it's 'done'.",
    "한\u1112\u1161\u11ab 漢字 ﬁ ① ｱ 👍🏽 e\u0301\r\n\n  x ",
    "two  spaces\t\ttabs   \n\n\n end/\n",
    "여러 단어 를 잇는 말 and some words in one row",
    "\x00\u0080\ufeff\u200b\U0010ffff",
    *CORPUS[:3],
]
EACH = pytest.mark.parametrize("name", NAMES)


def peer(name):
    hf = tokenizers.Tokenizer.from_str(source(name))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=hf, clean_up_tokenization_spaces=False)


@EACH
def test_ids_are_those_of_transformers(name):
    ours, theirs = tokenizer(name), peer(name)
    for text in AWKWARD:
        ids = ours.encode(text)
        assert ids == theirs(text, add_special_tokens=False).input_ids == ours.encode_batch([text])[0]
        assert ours.decode(ids) == theirs.decode(ids) == ours.normal(text)


@EACH
def test_text_comes_back_byte_for_byte_in_the_files_own_form(name):
    ours = tokenizer(name)
    for text in AWKWARD:
        ids = ours.encode(text)
        assert ours.decode_bytes(ids) == ours.normal(text).encode() == b"".join(map(ours.token_bytes, ids))
        stream = ours.stream()
        pieces = [p.text for i in ids for p in stream.feed(i)] + [p.text for p in stream.flush()]
        assert "".join(pieces) == ours.normal(text)
    assert ours.normal("ﬁ") == ("ﬁ" if name in ("k", "k2") else "fi")
    with pytest.raises(DataError, match="surrogate"):
        ours.encode("\ud800")


@EACH
def test_markers_lie_where_the_file_says_and_text_never_becomes_one(name):
    ours = tokenizer(name)
    assert dict(ours.specials) == SPECIALS[name] and ours.foreign
    for marker, i in SPECIALS[name].items():
        assert ours.special_id(marker) == i and ours.token_bytes(i) == b""
        assert ours.decode([i]) == "" and ours.decode([i], markers=True) == marker
        for text in (marker, f"a{marker}b", f" {marker}\n" * 2):
            assert not set(ours.encode(text)) & set(SPECIALS[name].values())
            assert ours.decode(ours.encode(text)) == text
    with pytest.raises(DataError, match="no marker.*" + re.escape(list(SPECIALS[name])[1])):
        ours.special_id("<|nobody|>")


@EACH
def test_rendered_prompts_get_the_ids_that_transformers_gives_the_string(name):
    style, ours, theirs = STYLES[name], tokenizer(name), peer(name)
    talk = [
        Message("system", "짧게."),
        Message("user", " 12+30?\n"),
        Message("assistant", "42"),
        Message("user", "왜?"),
    ]
    for mode in style.modes:
        for messages in (talk, talk[1:2]):
            how = {"thinking": mode == "think", "add_generation_prompt": True}
            tools = [{"name": "f", "description": "더하기"}] if style.tools else []
            segments = style.render(messages, tools=tools, **how)
            ids, loss = ours.encode_segments(segments)
            assert ids == theirs(text_of(segments), add_special_tokens=False).input_ids
            assert next(ours.encode_segments_batch([segments])) == (ids, loss) and not any(loss)


def test_a_marker_without_a_token_is_one_text_with_its_neighbours():
    ours = tokenizer("exaone3.5")
    segments = [Segment("[|user|]", True), Segment("더", False), Segment("하기", False, True), Segment("[PAD]", True)]
    ids, loss = ours.encode_segments(segments)
    assert ids == [*ours.encode("[|user|]더"), *ours.encode("하기"), 0]
    assert loss == [0] * len(ours.encode("[|user|]더")) + [1] * len(ours.encode("하기")) + [0]


def test_ids_beyond_the_tokenizer_mean_nothing():
    ours = tokenizer("k")
    assert ours.decode([ours.vocab_size, ours.vocab_size + 7]) == ""
    assert ours.stream().feed(ours.vocab_size + 7) == []


def test_added_tokens_that_are_no_markers_stay_text():
    raw = json.loads(source("k"))
    size = max(raw["model"]["vocab"].values()) + 1
    raw["added_tokens"].append({**raw["added_tokens"][0], "id": size, "content": "    ", "special": False})
    ours = Tokenizer(json.dumps(raw), imported=True)
    assert ours.encode("a    b").count(size) == 1 and "    " not in ours.specials
    assert ours.decode(ours.encode("a    b")) == "a    b"


def test_the_files_of_the_folder_go_where_the_tokenizer_goes(tmp_path):
    there, copy = tmp_path / "there", tmp_path / "copy"
    there.mkdir()
    files = {"tokenizer.json": source("k"), "tokenizer_config.json": '{"a": "é"}', "chat_template.jinja": "{{ x }}\n"}
    for name, text in files.items():
        (there / name).write_text(text, encoding="utf-8")
    read = Tokenizer.load(there, imported=True)
    read.save(copy)
    assert {f.name: f.read_text(encoding="utf-8") for f in copy.iterdir()} == files
    assert Tokenizer.load(copy, imported=True).sha256 == read.sha256


def test_our_own_are_read_as_ever_and_others_only_on_request(tmp_path):
    own = train_tokenizer(CORPUS, 300)
    own.save(tmp_path)
    read = Tokenizer.load(tmp_path, imported=True)
    assert not read.foreign and read.sha256 == own.sha256 and read.encode("ﬁ 12") == own.encode("ﬁ 12")
    with pytest.raises(DataError, match="lacks our markers"):
        Tokenizer(source("k"))


def test_files_that_would_change_text_are_refused():
    hf = tokenizers.Tokenizer(models.BPE())
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    hf.train_from_iterator(CORPUS, trainer)
    with pytest.raises(DataError, match="changes text"):
        Tokenizer(hf.to_str(), imported=True)
    words = tokenizers.Tokenizer(models.BPE(vocab={"한": 0, "a": 1}, merges=[]))
    with pytest.raises(DataError, match="only byte-level"):
        Tokenizer(words.to_str(), imported=True)
    few = tokenizers.Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    with pytest.raises(DataError, match=r"changes text|256"):
        Tokenizer(few.to_str(), imported=True)
    with pytest.raises(DataError, match="cannot be read"):
        Tokenizer("{", imported=True)
