"""Vocabularies of GGUF files: the same ids as the tokenizer.json that they were made of."""

import random
import sys
import unicodedata

import pytest
import tokenizers
from gguf_small import CHATML, TEXTS, gguf_bytes, vocabulary

from dokja.errors import DataError
from dokja.model.families.gguf_file import GgufFile, read_gguf
from dokja.model.families.gguf_text import source_of, template_of, tokenizer_at, tokenizer_of
from dokja.text.tokenizer import Tokenizer, train_tokenizer

POOL = [chr(c) for a, b in ((9, 14), (32, 127), (0xAC00, 0xAC40), (0x3131, 0x3140), (0x300, 0x308), (0x1F44D, 0x1F460))
        for c in range(a, b)]  # fmt: skip


def file_of(metadata, path="m.gguf"):
    return GgufFile(path, metadata, {})


@pytest.mark.parametrize("pre", ["qwen2", "llama-bpe", "gpt-2"])
def test_ids_are_those_of_the_original(pre):
    source, metadata = vocabulary(pre)
    theirs, ours = tokenizers.Tokenizer.from_str(source), tokenizer_of(file_of(metadata))
    theirs.encode_special_tokens = True
    rng = random.Random(0)
    assert [ours.encode(t) for t in TEXTS] == [Tokenizer(source, imported=True).encode(t) for t in TEXTS]
    texts = [
        *TEXTS[:-1],
        *("".join(rng.choices(POOL, k=rng.randint(1, 30))) for _ in range(500)),
    ]  # the last one types a marker that the library takes for one
    for text in texts:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
        normal = unicodedata.normalize("NFC", text) if pre == "qwen2" else text
        assert ours.decode_bytes(ours.encode(text)) == normal.encode()
    assert ours.vocab_size == theirs.get_vocab_size() and ours.foreign
    assert set(ours.specials) == set(CHATML)
    assert all(ours.special_id(name) == theirs.token_to_id(name) for name in CHATML)


def test_patterns_differ_where_they_should():
    found = {pre: tokenizer_of(file_of(vocabulary(pre)[1])) for pre in ("qwen2", "gpt-2")}
    pieces = {pre: [t.decode([i]) for i in t.encode("x 12345")] for pre, t in found.items()}
    assert all(len(piece.strip()) <= 1 for piece in pieces["qwen2"])
    assert "NFC" not in source_of(file_of(vocabulary("gpt-2")[1]))


def test_a_marker_that_is_typed_stays_text():
    ours = tokenizer_of(file_of(vocabulary("qwen2")[1]))
    for name in CHATML:
        assert ours.special_id(name) not in ours.encode(f"a{name}b")


def test_our_own_vocabulary_comes_back_as_ours(tmp_path):
    pytest.importorskip("gguf")
    from dokja.proof.gguf_vocab import read_vocabulary

    mine = train_tokenizer(TEXTS * 3, 330)
    mine.save(tmp_path)
    v = read_vocabulary(tmp_path, 340)
    metadata = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": v.pre, "tokenizer.ggml.tokens": list(v.tokens),
        "tokenizer.ggml.token_type": list(v.types), "tokenizer.ggml.merges": list(v.merges),
        "tokenizer.chat_template": v.template,
    }  # fmt: skip
    back = tokenizer_of(file_of(metadata))
    assert not back.foreign and back.vocab_size == mine.vocab_size
    assert [back.encode(t) for t in TEXTS] == [mine.encode(t) for t in TEXTS]
    assert template_of(file_of(metadata)) == v.template and template_of(file_of({})) is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "llama"}, "of the kind 'llama'.*byte-level BPE"),
        ({"pre": "tekken"}, "cuts text into words as 'tekken'.*qwen2"),
        ({"precompiled_charsmap": 1}, "precompiled_charsmap"),
        ({"token_type": None}, "no tokens, kinds of tokens or merges"),
        ({"token_type": [1]}, "do not fit together"),
        ({"merges": ["a b c"]}, "do not fit together"),
    ],
    ids=str,
)
def test_a_vocabulary_that_is_not_understood_is_refused(changes, sentence):
    metadata = vocabulary("qwen2")[1] | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    with pytest.raises(DataError, match=rf"m\.gguf: .*{sentence}"):
        tokenizer_of(file_of(metadata))


def test_two_tokens_of_one_name_are_refused():
    metadata = vocabulary("qwen2")[1]
    metadata["tokenizer.ggml.tokens"][5] = metadata["tokenizer.ggml.tokens"][4]
    with pytest.raises(DataError, match="two tokens of the same name"):
        tokenizer_of(file_of(metadata))


def test_a_path_is_a_folder_or_a_file(tmp_path):
    source, metadata = vocabulary("qwen2")
    (tmp_path / "m.gguf").write_bytes(gguf_bytes({"general.architecture": "qwen2", **metadata}, {}))
    (tmp_path / "tokenizer.json").write_text(source, encoding="utf-8")
    assert read_gguf(tmp_path / "m.gguf").metadata["tokenizer.ggml.merges"] == metadata["tokenizer.ggml.merges"]
    ids = [tokenizer_at(place).encode(TEXTS[0]) for place in (tmp_path, tmp_path / "m.gguf")]
    assert ids[0] == ids[1] == Tokenizer(source, imported=True).encode(TEXTS[0])


def test_a_vocabulary_is_read_without_torch(tmp_path):
    import subprocess

    (tmp_path / "m.gguf").write_bytes(gguf_bytes(vocabulary("qwen2")[1], {}))
    code = (
        "import sys; from dokja.model.families.gguf_text import tokenizer_at; tokenizer_at(sys.argv[1]); "
        "assert 'torch' not in sys.modules and 'gguf' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.gguf")], check=True)
