"""A conversation: what the engine is asked, what the person sees, what is remembered."""

from pathlib import Path

import numpy as np
import pytest
from scripted import ScriptedEngine, session

from dokja.cli.chat import command
from dokja.cli.session import Session
from dokja.errors import DokjaError
from dokja.text.chat import IMAGE, THINK_END, Message, render
from dokja.text.images import ImageConfig, png


def said(chat: Session, text: str) -> tuple[str, str]:
    deltas = list(chat.ask(text))
    thought = "".join(d.text for d in deltas if d.kind == "reasoning")
    return thought, "".join(d.text for d in deltas if d.kind == "content")


def engine(chat: Session) -> ScriptedEngine:
    assert isinstance(chat.engine, ScriptedEngine)
    return chat.engine


def test_thought_and_answer_are_told_apart_and_remembered() -> None:
    chat = session([("three plus four", "seven")])
    assert said(chat, "3 + 4?") == ("three plus four", "seven")
    assert chat.messages == [Message("user", "3 + 4?"), Message("assistant", "seven", "three plus four")]
    assert chat.thought_tokens == len(chat.tokenizer.encode("three plus four"))
    assert chat.finish == "stop" and chat.thought_closed


@pytest.mark.parametrize("thinking", [True, False])
def test_the_engine_reads_what_the_renderer_writes(thinking: bool) -> None:
    chat = session([("why", "one") if thinking else (None, "one")])
    chat.thinking = thinking
    list(chat.ask("안녕?"))
    list(chat.ask("더"))
    history = [
        Message("user", "안녕?"),
        Message("assistant", "one", "why" if thinking else None),
        Message("user", "더"),
    ]
    expected = chat.tokenizer.encode_segments(render(history, thinking=thinking, add_generation_prompt=True))[0]
    assert list(engine(chat).asked[1].prompt) == list(expected)


def test_answers_at_once_have_no_thought() -> None:
    chat = session([(None, "안녕하세요")])
    chat.thinking = False
    assert said(chat, "hi") == ("", "안녕하세요")
    assert chat.thought_tokens == 0


def test_a_stopped_answer_is_kept_as_far_as_it_went_and_the_engine_is_told() -> None:
    chat = session([("x", "안녕하세요 독자")])
    answer = chat.ask("hi")
    text = ""
    for delta in answer:
        text += delta.text if delta.kind == "content" else ""
        if text:
            break
    answer.close()  # type: ignore[attr-defined]
    assert engine(chat).closed == 1
    assert [m.role for m in chat.messages] == ["user", "assistant"]
    assert "안녕하세요 독자".startswith(chat.messages[1].content)
    assert said(chat, "again") == ("x", "안녕하세요 독자")


def test_an_answer_that_meets_the_limit_says_so() -> None:
    chat = session([("three plus four is seven", "7")], max_tokens=3)
    said(chat, "?")
    assert chat.finish == "length" and not chat.thought_closed and chat.tokens == 3


def test_a_thinking_budget_is_passed_on_only_when_thinking() -> None:
    chat = session([("a", "b")], budget=8)
    list(chat.ask("?"))
    chat.thinking = False
    list(chat.ask("?"))
    close = (chat.tokenizer.special_id(THINK_END),)
    assert [(r.think_budget, tuple(r.think_close)) for r in engine(chat).asked] == [(8, close), (None, ())]


def test_an_effort_is_a_budget_and_a_thought_always_ends_in_an_answer() -> None:
    chat = session([("a", "b")], max_tokens=64, effort="low", budget=None)  # type: ignore[arg-type]
    list(chat.ask("?"))
    (asked,) = engine(chat).asked
    assert (asked.think_budget, asked.thinking, asked.recover) == (8, True, True)


def test_a_long_conversation_forgets_its_oldest_turns_and_never_outgrows_the_context() -> None:
    chat = session([("a", "안녕하세요 독자는")], context=160, max_tokens=32)
    for i in range(20):
        list(chat.ask(f"message {i}"))
    assert chat.forgot
    assert all(len(r.prompt) + r.max_tokens <= 160 for r in engine(chat).asked)
    assert chat.messages[0].role == "user" and chat.messages[-2].content == "message 19"


def test_a_message_longer_than_the_context_is_refused_and_leaves_the_conversation_as_it_was() -> None:
    chat = session([("a", "b")], context=64, max_tokens=16)
    list(chat.ask("hi"))
    before = list(chat.messages)
    with pytest.raises(DokjaError, match="Shorten it"):
        list(chat.ask("길다 " * 100))
    assert chat.messages == before


def test_reset_forgets_everything_but_the_mode() -> None:
    chat = session([(None, "b")])
    chat.thinking = False
    list(chat.ask("hi"))
    chat.reset()
    assert chat.messages == [] and chat.thinking is False


def test_an_image_goes_with_the_next_message_and_stays_in_the_history(tmp_path: Path) -> None:
    chat = session([(None, "b")])
    file = tmp_path / "a.png"
    file.write_bytes(png(np.full((16, 24, 3), 7, np.uint8)))
    assert "cannot see" in str(command(chat, f"/image {file}", "en"))
    chat.images = ImageConfig(patch=4, merge=2, min_pixels=64, max_pixels=6400)
    assert "24 x 16" in str(command(chat, f"/image {file}", "en"))
    assert "cannot be read" in str(command(chat, f"/image {tmp_path}/none.png", "en"))
    chat.thinking = False
    for text in ("what?", "and?"):
        list(chat.ask(text))
    for request in engine(chat).asked:
        assert [image.grid for image in request.images] == [(1, 4, 6)]
        assert request.prompt.count(chat.tokenizer.special_id(IMAGE)) == 6
    assert [len(m.images) for m in chat.messages] == [1, 0, 0, 0]
    command(chat, f"/image {file}", "en")
    chat.reset()
    assert chat.pending == []


def test_a_model_that_cannot_see_refuses_an_image_once() -> None:
    chat = session([(None, "b")])
    chat.pending.append(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DokjaError, match="text alone"):
        list(chat.ask("what?"))
    assert list(chat.ask("hi")) and chat.messages[0].content == "hi"
