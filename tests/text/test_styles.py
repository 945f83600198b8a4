"""Which format a folder speaks."""

import json

import pytest
from official_small import CORPUS, source

from dokja.errors import DataError
from dokja.text.styles import DOKJA, STYLES, style_of
from dokja.text.template import JINJA_SHA256
from dokja.text.tokenizer import Tokenizer, train_tokenizer


def folder(path, name, config, template=None):
    (path / "tokenizer.json").write_text(source(name), encoding="utf-8")
    (path / "config.json").write_text(json.dumps(config))
    if template:
        (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return path


@pytest.mark.parametrize(
    ("tokens", "config", "template", "style"),
    [
        ("exaone3.5", {"model_type": "exaone"}, None, "exaone3.5"),
        ("exaone3.5", {"model_type": "llama"}, "{{ '[|assistant|]' }}", "exaone3.5"),
        ("exaone3.5", {"model_type": "exaone"}, "{{ '[|assistant|]<thought>\\n' }}", "deep"),
        ("deep", {"model_type": "exaone"}, None, "deep"),
        ("exaone4", {"model_type": "exaone4"}, None, "exaone4"),
        ("k", {"model_type": "exaone_moe"}, None, "k"),
        ("k", {"model_type": "exaone4_5"}, "enable_thinking", "k"),
        ("k", {"model_type": "exaone_moe", "swiglu_limits": [0, 7]}, None, "k2"),
        ("k", {"model_type": "exaone_moe"}, "preserve_thinking", "k2"),
    ],
)
def test_tokens_template_and_config_name_the_style(tmp_path, tokens, config, template, style):
    assert style_of(folder(tmp_path, tokens, config, template)).name == style


def test_our_tokenizer_is_our_style_whatever_the_layout(tmp_path):
    train_tokenizer(CORPUS, 300).save(tmp_path)
    for model_type in ("exaone4", "exaone_moe"):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
        assert style_of(tmp_path) is DOKJA


def test_a_format_that_is_not_known_is_refused_with_a_sentence(tmp_path):
    folder(tmp_path, "k", {"model_type": "exaone5"})
    raw = json.loads(source("k"))
    raw["added_tokens"] = []
    with pytest.raises(DataError, match=r"exaone5.*not known.*dokja speaks"):
        style_of(tmp_path, Tokenizer(json.dumps(raw), imported=True))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json cannot be read"):
        style_of(tmp_path)


def test_defaults_and_fingerprints_tell_the_styles_apart():
    assert {s.name: s.thinking for s in STYLES.values()} == {
        "dokja": True, "exaone3.5": False, "deep": True, "exaone4": False, "k": True, "k2": True, "qwen2.5": False,
        "qwen2.5-coder": False,
    }  # fmt: skip
    assert DOKJA.sha256 == JINJA_SHA256
    assert len({s.sha256 for s in STYLES.values()}) == len(STYLES)
    assert STYLES["exaone4"].spelled_by({"[|endofturn|]": 1, "<think>": 2, "</think>": 3}) == {
        "<tool_call>", "</tool_call>",
    }  # fmt: skip
