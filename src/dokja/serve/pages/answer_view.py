"""An answer on the page: its thought, folded; its text, which grows by what is new; what can be done with it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from nicegui import ui

from dokja.serve.pages.markdown import Blocks, render
from dokja.serve.pages.parts import Words, attribute, box, button, icon, raw
from dokja.serve.pages.strings import Language, duration, say
from dokja.serve.pages.writing import Writing
from dokja.serve.threads import Answer

_RATE = 60_000
"""Characters a second of unfinished blocks that are sent again: long ones are sent less often."""
_BAD = ("lost", "killed", "busy", "loading", "away", "key", "refused")


class Prose:
    """Markdown that grows: finished blocks stay as they are, the open end is sent again when it has changed."""

    def __init__(self, classes: str = "prose") -> None:
        self._blocks, self._seen, self._sent, self._due = Blocks(), 0, 0, 0.0
        self._box = box("div", classes)
        self._open: ui.html | None = None

    def show(self, text: str, final: bool = False) -> None:
        """The text as it stands; `final` sends the end whatever it costs."""
        self._blocks.push(text[self._seen :])
        grown, self._seen = len(text) > self._seen, len(text)
        done = self._blocks.done[self._sent :]
        now = time.monotonic()
        if not (done or final or (grown and now >= self._due)):
            return
        with self._box:
            if done:
                if self._open is not None:
                    self._open.delete()
                    self._open = None
                raw("".join(done))
                self._sent += len(done)
            end = render(self._blocks.tail) if final else self._blocks.open_html
            self._due = now + len(end) / _RATE
            if self._open is None and end:
                self._open = raw(end)
            elif self._open is not None:
                self._open.set_content(end)


class AnswerView:
    """One answer. `tick` brings it to where its writing is."""

    def __init__(
        self,
        answer: Answer,
        writing: Writing | None,
        language: Language,
        *,
        named: bool,
        place: tuple[int, int],
        on_retry: Callable[[], None],
        on_place: Callable[[int], None],
    ) -> None:
        """named: says which model it is. place: (which of how many retries)."""
        self.answer, self.writing, self.language = (writing.answer if writing else answer), writing, language
        self._place, self._on_retry, self._on_place = place, on_retry, on_place
        self._version, self._open = -1, False
        self._thought: ui.element | None = None
        with attribute(box("div", "answer"), role="article"):
            if named:
                Words("div", answer.model, "who")
            self._fold = box("div")
            self._waiting = raw("<i></i><i></i><i></i>", "waiting").mark("waiting")
            attribute(self._waiting, aria_label=say("writing", language))
            self._prose = Prose("prose")
            self._foot = box("div")
        self.tick()

    @property
    def gone(self) -> bool:
        """Whether it was taken off the page."""
        return self._foot.is_deleted

    def tick(self) -> bool:
        """Shows what is new; whether more will come."""
        answer, live = self.answer, self.answer.finish is None and self.writing is not None
        version = self.writing.version if self.writing else 0
        if answer.reasoning:
            self._show_thought(live)
        if version != self._version or not live:
            self._version = version
            self._prose.show(answer.content, final=not live)
            self._waiting.set_visibility(live and not answer.content and not answer.reasoning)
        if not live:
            self._end()
        return live

    def _show_thought(self, live: bool) -> None:
        thinking = live and self.answer.thought_seconds is None
        if self._thought is None:
            with self._fold:
                self._thought = box("details", "thought").mark("thought")
                toggled = "(event) => emit(event.target.open)"
                self._thought.on("toggle", lambda e: self._toggle(bool(e.args)), js_handler=toggled)
                with self._thought:
                    with box("summary"):
                        icon("think")
                        self._summary = Words("span", "")
                        icon("fold").classes("fold")
                    self._inside = box("div")
                self._reasoning: Prose | None = None
        self._thought.classes("live" if thinking else "", remove="" if thinking else "live")
        self._summary.set_text(self._thought_words(thinking))
        if self._open:
            if self._reasoning is None:
                with self._inside:
                    self._reasoning = Prose("prose")
            self._reasoning.show(self.answer.reasoning, final=not thinking)

    def _toggle(self, opened: bool) -> None:
        """What is folded is not sent before somebody wants to see it."""
        self._open = opened
        self._show_thought(self.answer.finish is None and self.writing is not None)

    def _thought_words(self, thinking: bool) -> str:
        answer = self.answer
        seconds = self.writing.seconds if thinking and self.writing else answer.thought_seconds
        words = [say("thinking" if thinking else "thought", self.language)]
        if seconds is not None:
            words.append(duration(int(seconds) if thinking else seconds, self.language))
        if answer.thought_tokens and not thinking:
            words.append(say("tokens", self.language, n=f"{answer.thought_tokens:,}"))
        return " · ".join(words)

    def _end(self) -> None:
        """The note on how it ended, and the buttons; once."""
        self.writing = None
        self._waiting.set_visibility(False)
        answer, language = self.answer, self.language
        if self._foot.default_slot.children:
            return
        finish = answer.finish or "killed"
        with self._foot:
            if finish in _BAD or finish in ("stopped", "length"):
                why = answer.error or ""
                Words("div", say(f"end_{finish}", language, why=why), "note bad" if finish in _BAD else "note")
            elif not answer.content:
                Words("div", say("empty", language), "note")
            with box("div", "acts-line"):
                if answer.content:
                    copy = button("copy", say("copy", language), None, "ghost small copies")
                    copy.on("click", lambda: ui.run_javascript(f"dokja.copy({json.dumps(answer.content)})"), args=[])
                button("retry", say("retry", language), self._on_retry, "ghost small").mark("retry")
                self._places()
                Words("span", self._figures(), "figures")

    def _places(self) -> None:
        at, count = self._place
        if count > 1:
            places(at, count, self.language, self._on_place)

    def _figures(self) -> str:
        """Time, tokens and speed, where they are known."""
        answer, words = self.answer, []
        if answer.seconds is not None and answer.finish not in _BAD:
            words.append(duration(answer.seconds, self.language))
            if answer.tokens:
                words.append(say("tokens", self.language, n=f"{answer.tokens:,}"))
                speed = answer.tokens / answer.seconds if answer.seconds else 0
                words.append(say("speed", self.language, n=f"{speed:,.0f}"))
        return " · ".join(words)


def places(at: int, count: int, language: Language, go: Callable[[int], None]) -> None:
    """‹ 2/3 ›"""
    before = button("left", say("earlier", language), lambda: go(at - 1), "ghost small").mark("earlier")
    Words("span", f"{at + 1}/{count}", "place")
    after = button("right", say("later", language), lambda: go(at + 1), "ghost small").mark("later")
    attribute(before, disabled=at == 0)
    attribute(after, disabled=at == count - 1)
