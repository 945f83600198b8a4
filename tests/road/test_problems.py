"""What the model is taught to say, and after what."""

import random

from dokja.road.problems import conversations
from dokja.text.chat import render, text_of

ROWS = [{"prompt": f"{n}+{n}?", "reference": str(2 * n), "trace": f"{n}+{n}={2 * n}"} for n in range(2000)]


def test_shares_of_thinking_and_of_history_are_what_was_asked() -> None:
    made = list(conversations(ROWS, 0.6, 0.2, random.Random(0)))
    assert abs(sum(thinking for _, thinking in made) / len(made) - 0.6) < 0.05
    lengths = [len(messages) for messages, _ in made]
    assert set(lengths) == {2, 4, 6}
    assert abs(sum(n > 2 for n in lengths) / len(made) - 0.2) < 0.04


def test_only_the_last_answer_is_learned_and_earlier_thoughts_are_gone() -> None:
    made = [m for m in conversations(ROWS, 1.0, 1.0, random.Random(0)) if len(m[0]) == 6]
    for messages, thinking in made[:50]:
        segments = render(messages, thinking=thinking)
        learned = "".join(s.text for s in segments if s.loss)
        assert learned == f"{messages[-1].reasoning}</think>{messages[-1].content}<|end|>"
        assert text_of(segments).count("<think></think>") == 2
