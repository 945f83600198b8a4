"""A chat with an engine whose answers are written down beforehand. As a program: a terminal to try `talk` in."""

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dokja.cli.chat import pipe, talk
from dokja.cli.session import Sampling, Session
from dokja.engine.api import Event, Request
from dokja.text.chat import END, THINK_END
from dokja.text.tokenizer import Tokenizer, train_tokenizer

CORPUS = ["안녕하세요. 독자는 자기만의 모델입니다.", "three plus four is seven; 3 + 4 = 7"] * 20


def tokenizer() -> Tokenizer:
    return train_tokenizer(CORPUS, 300)


@dataclass
class ScriptedEngine:
    """Answers request after request with `answers`, each a thought (None: at once) and a text."""

    tokenizer: Tokenizer
    answers: list[tuple[str | None, str]]
    delay: float = 0.0
    asked: list[Request] = field(default_factory=list)
    closed: int = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Event]:
        (request,) = requests
        self.asked.append(request)
        thought, text = self.answers[(len(self.asked) - 1) % len(self.answers)]
        ids = [] if thought is None else [*self.tokenizer.encode(thought), self.tokenizer.special_id(THINK_END)]
        ids += [*self.tokenizer.encode(text), self.tokenizer.special_id(END)]
        ids = ids[: request.max_tokens]
        try:
            for i, token in enumerate(ids):
                time.sleep(self.delay)
                last = i == len(ids) - 1
                stop = "stop" if token == self.tokenizer.special_id(END) else "length"
                yield Event(request.id, token, -1.0, stop if last else None)
        finally:
            self.closed += 1


def session(answers: list[tuple[str | None, str]], delay: float = 0.0, context: int = 512, **sampling: int) -> Session:
    tok = tokenizer()
    return Session(ScriptedEngine(tok, answers, delay), tok, context, Sampling(**sampling))


if __name__ == "__main__":
    chat = session([("three plus four\nis seven", "seven [b]7[/b] 독자"), ("short", "안녕하세요")], float(sys.argv[1]))
    if sys.stdin.isatty():
        talk(chat, "tiny", "ko" if "ko" in sys.argv else "en", thoughts=False)
    else:
        pipe(chat, "en", thoughts="thoughts" in sys.argv)
