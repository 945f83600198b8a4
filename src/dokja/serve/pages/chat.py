"""The chat page: a conversation with one model, or the same one with two models side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

from fastapi import Request, Response
from nicegui import ui

from dokja.serve.pages.answer_view import AnswerView, places
from dokja.serve.pages.asking import Setting, body_of, mode_of
from dokja.serve.pages.composer import Composer
from dokja.serve.pages.endpoint import EndpointError, ModelCard
from dokja.serve.pages.frame import Frame, Pages, Visitor, head, turned_away
from dokja.serve.pages.parts import Words, attribute, box, button, icon
from dokja.serve.threads import Answer, Turn

TICK = 0.07
"""Seconds between looks at what has been written."""


class Chat:
    """The page as one browser tab sees it."""

    def __init__(self, pages: Pages, visitor: Visitor) -> None:
        self._pages, self._who = pages, visitor
        self._endpoint = pages.endpoint(visitor.key)
        self._cards: list[ModelCard] = []
        self._thread: str | None = None
        self._turns: list[Turn] = []
        self._views: list[AnswerView] = []
        self._client = ui.context.client  # what runs in the browser outlives the button that was pressed
        self._frame = Frame(pages, visitor, self.open)
        with self._frame.main() as self._main:
            self._top = box("div", "top")
            with box("div", "scroll"):
                self._talk = attribute(box("div", "talk"), aria_live="off")
            with box("div", "dock"):
                to_end = button("down", self._say("bottom"), None, "to-end")
                to_end.on("click", js_handler="() => dokja.end(true)")
                self._composer = Composer(self._frame, self.send, self.stop, self._chosen)
        self._timer = ui.timer(TICK, self._tick, active=False)

    def _push(self, path: str) -> None:
        """Puts a path into the address line."""
        self._client.run_javascript(f'history.pushState({{}}, "", {json.dumps(self._pages.base + path)})')

    def _notify(self, key: str) -> None:
        with self._main:
            ui.notify(self._say(key), position="top")

    def _say(self, key: str, **values: object) -> str:
        return self._frame.say(key, **values)

    @property
    def _setting(self) -> Setting:
        return self._composer.setting

    # what there is to choose

    async def load(self, thread: str | None) -> None:
        """Asks which models there are and shows a conversation."""
        await self._ask_models()
        self.open(thread, push=False)
        if not self._cards:
            self._waiting_for_models = ui.timer(1.5, self._again)

    async def _ask_models(self) -> None:
        try:
            self._cards = await self._endpoint.models()
        except EndpointError:
            self._cards = []

    async def _again(self) -> None:
        """The model was not there yet."""
        await self._ask_models()
        if self._cards:
            self._waiting_for_models.cancel()
            self._fit()

    def _card(self, name: str) -> ModelCard | None:
        return next((c for c in self._cards if c.name == name), None)

    def _asked(self) -> list[ModelCard]:
        """The models that will answer: those chosen that are still there, else the first."""
        found = [card for name in self._setting.models if (card := self._card(name))]
        return found or self._cards[:1]

    def _chosen(self) -> None:
        """Something was chosen for the conversation."""
        if self._thread is not None:
            self._pages.threads.choose(self._who.owner, self._thread, self._setting.plain())
        self._fit()

    def _fit(self) -> None:
        """Shows what is chosen."""
        asked = self._asked()
        self._main.classes("wide" if len(asked) > 1 else "", remove="" if len(asked) > 1 else "wide")
        self._composer.fit(asked)
        self._top.clear()
        with self._top:
            button("menu", self._say("menu"), None, "ghost side-toggle")
            if not asked:
                Words("span", self._say("no_models"), "versus")
            for lane, card in enumerate(asked):
                if lane:
                    Words("span", "·", "versus")
                self._picker(lane, card)
            box("span", "space")
            if len(asked) > 1:
                button("close", self._say("compare_end"), lambda: self._pick([asked[0].name])).mark("compare-end")
            elif len(self._cards) > 1:
                with button("columns", self._say("compare")).mark("compare"), ui.menu().props("auto-close"):
                    for card in self._cards:
                        if card.name != asked[0].name:
                            self._model_line(card, False, [asked[0].name, card.name])

    def _picker(self, lane: int, card: ModelCard) -> None:
        with attribute(box("button", "pick").mark(f"pick-{lane}"), type="button", aria_label=self._say("model")):
            Words("span", card.name)
            if len(self._cards) > 1:
                icon("fold")
                with ui.menu().props("auto-close"):
                    for other in self._cards:
                        names = [c.name for c in self._asked()]
                        names[lane] = other.name
                        self._model_line(other, other.name == card.name, names)

    def _model_line(self, card: ModelCard, on: bool, names: list[str]) -> None:
        line = attribute(box("button", "choice").mark(f"model-{card.name}"), type="button")
        line.on("click", lambda: self._pick(names), args=[])
        can = [self._say(key) for key, has in (("thinks", card.thinks), ("sees", card.sees)) if has]
        with line:
            with box("span", "grow"):
                Words("span", card.name)
                if can:
                    Words("small", " · ".join(can))
            if on:
                icon("check")

    def _pick(self, names: list[str]) -> None:
        self._setting.models = names
        self._chosen()

    # what is shown

    def open(self, thread: str | None, push: bool = True) -> None:
        """Shows a conversation, or the beginning of a new one."""
        threads, owner = self._pages.threads, self._who.owner
        if thread is not None:
            try:
                kept, title = Setting.of(threads.setting(owner, thread)), threads.head(owner, thread).title
            except KeyError:
                self._notify("gone")
                thread, push = None, True
        self._thread = self._frame.current = thread
        if thread is None:
            self._composer.setting = Setting(
                [c.name for c in self._asked()], self._setting.thinking, self._setting.effort
            )
            title = self._say("new")
        else:
            self._composer.setting = kept
        if push:
            self._push("/" if thread is None else f"/t/{thread}")
        ui.page_title(f"{title} · dokja")
        self._frame.list_threads()
        self._fit()
        self._show()
        self._client.run_javascript("dokja.focus(); dokja.end(false)")

    def _show(self, start: int = 0) -> None:
        """Shows the branch; turns before `start` are on the page already."""
        self._turns = self._pages.threads.turns(self._who.owner, self._thread) if self._thread else []
        shown = list(self._talk.default_slot.children)
        for old in shown[start:] if self._turns and start else shown:
            old.delete()
        if not start:
            self._views = []
        with self._talk:
            if not self._turns:
                self._hello()
            for turn in self._turns[start:]:
                with box("div", "turn"):
                    self._show_turn(turn)
        self._views = [view for view in self._views if not view.gone]
        self._timer.active = True

    def _hello(self) -> None:
        with box("div", "hello"):
            Words("h1", self._say("hello"))
            Words("p", self._say("hello_more"))

    def _show_turn(self, turn: Turn) -> None:
        said = box("div", "said")
        with said:
            self._show_said(turn, said)
        lanes = sorted(turn.answers)
        names = {answer.model for lane in lanes if (answer := turn.answer(lane))}
        with box("div", "lanes two" if len(lanes) > 1 else "lanes"):
            for lane in lanes:
                answer = turn.answer(lane)
                if answer is None:
                    continue
                named = len(lanes) > 1 or len(names) > 1 or [answer.model] != [c.name for c in self._cards]
                self._views.append(
                    AnswerView(
                        answer, self._pages.desk.get(answer.id), self._who.language, named=named,
                        place=(turn.shown[lane], len(turn.answers[lane])),
                        on_retry=partial(self._retry, turn, lane),
                        on_place=partial(self._place, turn, lane),
                    )
                )  # fmt: skip

    def _show_said(self, turn: Turn, said: ui.element) -> None:
        if turn.pictures:
            with box("div", "pictures"):
                for name in turn.pictures:
                    attribute(box("img"), src=f"{self._pages.base}/pictures/{name}", alt="", loading="lazy")
        Words("div", turn.text, "bubble")
        with box("div", "acts-line kept" if len(turn.siblings) > 1 else "acts-line"):
            copy = button("copy", self._say("copy"), None, "ghost small copies")
            copy.on("click", lambda: self._client.run_javascript(f"dokja.copy({json.dumps(turn.text)})"), args=[])
            button("edit", self._say("edit"), lambda: self._edit(turn, said), "ghost small").mark("edit")
            if len(turn.siblings) > 1:
                places(turn.place, len(turn.siblings), self._who.language, lambda at: self._branch(turn, at))

    def _edit(self, turn: Turn, said: ui.element) -> None:
        said.clear()
        with said, box("div", "editing"):
            field = attribute(box("textarea", "edit-text").mark("edit-text"), aria_label=self._say("edit"))
            attribute(field, value=turn.text, rows=max(2, turn.text.count("\n") + 1))
            with box("div", "acts"):
                button(None, self._say("cancel"), lambda: self._show(self._at(turn)), "plain edit-cancel", words=True)
                save = button(None, self._say("send"), None, "solid edit-save", words=True).mark("edit-save")
                read = "(e) => emit(e.target.closest('.editing').querySelector('textarea').value)"
                save.on("click", lambda e: self._edited(turn, str(e.args)), js_handler=read)
        self._client.run_javascript(f"const a = getHtmlElement({field.id}); a.focus(); a.setSelectionRange(1e6, 1e6)")

    def _at(self, turn: Turn) -> int:
        return next(i for i, one in enumerate(self._turns) if one.id == turn.id)

    def _branch(self, turn: Turn, at: int) -> None:
        if self._thread is not None and 0 <= at < len(turn.siblings) and not self._writing():
            start = self._at(turn)
            self._pages.threads.show_turn(self._who.owner, self._thread, turn.siblings[at])
            self._show(start)

    def _place(self, turn: Turn, lane: int, at: int) -> None:
        if 0 <= at < len(turn.answers[lane]) and not self._writing():
            self._pages.threads.show_answer(turn.id, lane, turn.answers[lane][at].id)
            self._show(self._at(turn))

    # what is said and answered

    def send(self, text: str) -> None:
        """The person says something."""
        text = text.strip()
        if not text or self._writing():
            return
        if not self._asked():
            self._notify("no_models")
            self._client.run_javascript(f"dokja.fill({json.dumps(text)})")
            return
        threads, owner, new = self._pages.threads, self._who.owner, self._thread is None
        if self._thread is None:
            self._thread = self._frame.current = threads.new(owner, title_of(text))
            threads.choose(owner, self._thread, self._setting.plain())
            self._push(f"/t/{self._thread}")
            ui.page_title(f"{title_of(text)} · dokja")
        parent = self._turns[-1].id if self._turns else None
        threads.say(owner, self._thread, parent, text, self._composer.take_pictures())
        self._answer(range(len(self._asked())), 0 if new else len(self._turns))
        self._frame.list_threads()

    def _edited(self, turn: Turn, text: str) -> None:
        text = text.strip()
        if self._thread is None or not text or self._writing():
            return
        start = self._at(turn)
        self._pages.threads.say(self._who.owner, self._thread, turn.parent, text, keep=turn.pictures)
        self._answer(range(len(self._asked())), start)

    def _retry(self, turn: Turn, lane: int) -> None:
        """Another answer to a turn; what was said after it stays, since it is history of the same question."""
        if self._asked() and not self._writing():
            self._answer([lane], self._at(turn), turn.id)

    def _answer(self, lanes: Sequence[int], start: int, turn: int | None = None) -> None:
        """Lets the models answer the last turn, or the one named, and shows the page from turn `start` on."""
        assert self._thread is not None
        threads, asked = self._pages.threads, self._asked()
        turns = threads.turns(self._who.owner, self._thread)
        if turn is not None:
            turns = turns[: next(i for i, one in enumerate(turns) if one.id == turn) + 1]
        for lane in lanes:
            card = asked[min(lane, len(asked) - 1)]
            answer = threads.begin(turns[-1].id, lane, card.name, *mode_of(card, self._setting))
            body = body_of(turns, answer, lambda name: threads.picture(self._who.owner, name), card.sees)
            self._pages.desk.start(answer, self._endpoint, body)
        self._show(start)
        self._composer.busy(True)
        self._client.run_javascript("dokja.end(true)")

    def _live(self) -> list[Answer]:
        return [view.answer for view in self._views if view.writing is not None]

    def _writing(self) -> bool:
        return any(self._pages.desk.get(answer.id) for answer in self._live())

    def stop(self) -> None:
        """Ends what is being written."""
        for answer in self._live():
            if writing := self._pages.desk.get(answer.id):
                writing.stop()

    def _tick(self) -> None:
        live = [view.tick() for view in self._views if view.writing is not None]
        self._composer.busy(any(live))
        self._timer.active = any(live)


def title_of(text: str) -> str:
    """The beginning of what was said first."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59].rstrip() + "…"


async def chat_page(pages: Pages, request: Request, thread: str | None) -> Response | None:
    """The page at / and /t/THREAD."""
    visitor = Visitor.of(request)
    if away := await turned_away(pages, visitor):
        return away
    head(pages, visitor, "dokja")
    await Chat(pages, visitor).load(thread)
    return None
