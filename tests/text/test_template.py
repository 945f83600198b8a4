"""The exported folder beside transformers, which renders and encodes it on its own."""

import json

import numpy as np
import pytest

from dokja.text.chat import SPECIALS, Message, Segment, ToolCall, render, text_of

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported")
    tokenizer.save(path)
    return path


@pytest.fixture(scope="module")
def peer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("thinking", [True, False, None])
def test_the_template_renders_the_same_bytes(peer, conversation, thinking, prompt):
    messages, tools = conversation
    if not messages:
        messages = [Message("user", "비어 있지 않은 대화")]  # transformers cannot be given an empty one
    mode = {} if thinking is None else {"enable_thinking": thinking}
    theirs = peer.apply_chat_template(
        [m.to_dict() for m in messages], tools=list(tools) or None, tokenize=False, add_generation_prompt=prompt, **mode
    )
    ours = render(messages, tools=tools, thinking=thinking is not False, add_generation_prompt=prompt)
    assert theirs.encode() == text_of(ours).encode()


def test_the_template_reads_the_variants_of_the_api(peer):
    talk = [
        {"role": "user", "content": "?"},
        {
            "role": "assistant",
            "content": None,
            "reasoning": "R",
            "tool_calls": [{"name": "f", "arguments": {"x": "é"}}],
        },
    ]
    messages = [Message("user", "?"), Message("assistant", "", "R", (ToolCall("f", {"x": "é"}),))]
    assert peer.apply_chat_template(talk, tokenize=False) == text_of(render(messages))
    talk[1]["tool_calls"] = [{"type": "function", "function": {"name": "f", "arguments": '{"x": "é"}'}}]
    assert peer.apply_chat_template(talk, tokenize=False) == text_of(render(messages))


def test_the_template_shows_images_as_render_does(peer):
    picture = np.zeros((2, 3, 3), np.uint8)
    call = Message("assistant", "", "R", (ToolCall("draw", {}),))
    for text in ("", "무엇입니까?"):
        talk = [Message("user", text, images=(picture, picture)), call, Message("tool", text, images=(picture,))]
        theirs = peer.apply_chat_template([m.to_dict() for m in talk], tokenize=False)
        assert theirs == text_of(render(talk))
        assert theirs.count("<|image|>") == 3
    parts = [{"type": "text", "text": t} for t in ("a", "", "b")]
    parts.insert(1, {"type": "image", "image": picture})
    raw = {"role": "user", "content": parts}
    theirs = peer.apply_chat_template([raw], tokenize=False)
    assert theirs == text_of(render([Message.from_dict(raw)])) == "<|bos|><|user|><|image|>a\nb<|end|>"


def test_the_template_refuses_what_render_refuses(peer):
    image = [{"type": "image"}]
    for role, content in (("bot", "x"), ("user", [{"type": "audio"}]), ("system", image), ("assistant", image)):
        with pytest.raises(Exception, match=r"Use system, user|Only text"):
            peer.apply_chat_template([{"role": role, "content": content}], tokenize=False)


def test_transformers_encodes_the_same_ids(peer, tokenizer, corpus_texts):
    awkward = ["한\u1112\u1161\u11ab 漢字 👍🏽", "e\u0301 12345\r\n\n  x ", "\x00\ue000 I'll", "", "ㄱㅏ\t\u3000"]
    for text in [*awkward, *corpus_texts[:50]]:
        assert peer(text, add_special_tokens=False).input_ids == tokenizer.encode(text)
        assert peer(text).input_ids == tokenizer.encode(text)
        assert peer.decode(tokenizer.encode(text)) == tokenizer.decode(tokenizer.encode(text))


def test_transformers_encodes_rendered_conversations_the_same(peer, tokenizer, conversation):
    messages, tools = conversation
    segments = render(messages, tools=tools)
    if any(name in s.text for s in segments if not s.special for name in SPECIALS):
        pytest.skip("a rendered string cannot tell a quoted marker from a real one")
    ids, _ = tokenizer.encode_segments(segments)
    assert peer(text_of(segments), add_special_tokens=False).input_ids == ids


def test_transformers_knows_the_markers(peer):
    assert peer.convert_tokens_to_ids(list(SPECIALS)) == list(range(12))
    assert (peer.bos_token, peer.eos_token, peer.pad_token) == ("<|bos|>", "<|end|>", "<|pad|>")
    assert set(peer.all_special_tokens) == set(SPECIALS)


def test_a_release_with_the_official_model_type_loads_the_same_tokenizer(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "exaone4"}))
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "12345 더하기 678은 얼마입니까? I'll add."
    assert peer(text).input_ids == tokenizer.encode_segments([Segment(text, False)])[0]
    fast = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert fast(text).input_ids == tokenizer.encode(text)
    assert fast.chat_template == peer.chat_template
