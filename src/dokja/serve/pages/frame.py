"""What every page has around it: the list of conversations, appearance, language, keys, and who is there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from dokja.serve.pages.endpoint import Endpoint, EndpointError
from dokja.serve.pages.parts import Words, attribute, box, button, icon
from dokja.serve.pages.strings import Language, cookie, pick_language, say
from dokja.serve.pages.writing import Desk
from dokja.serve.threads import Head, Threads

_HERE = Path(__file__).parent
_DAY = 86_400.0
KEYS = (
    ("key_send", "Enter"), ("key_line", "Shift+Enter"), ("key_stop", "Esc"), ("key_new", "Ctrl+Shift+O"),
    ("key_think", "Ctrl+."), ("key_side", "Ctrl+B"), ("key_focus", "/"), ("key_help", "?"),
)  # fmt: skip


@dataclass(frozen=True)
class Pages:
    """What the pages stand on. `endpoint` makes one for a key (None: without). `base`: the path they are mounted at."""

    endpoint: Callable[[str | None], Endpoint]
    threads: Threads
    desk: Desk
    runs: Path
    base: str = ""
    locked: bool = False
    """Whether a key is asked for."""
    picture_bytes: int = 16_000_000
    picture_pixels: int = 36_000_000


@dataclass(frozen=True)
class Visitor:
    """Who looks at the page, in which language, and how."""

    key: str | None
    language: Language
    dark: bool | None
    side: bool

    @classmethod
    def of(cls, request: Request) -> Visitor:
        """As the browser tells."""
        kept = request.cookies
        language = pick_language(cookie(kept, "language"), request.headers.get("accept-language", ""))
        dark = {"dark": True, "light": False}.get(cookie(kept, "theme") or "")
        return cls(cookie(kept, "key"), language, dark, cookie(kept, "side") != "shut")

    @property
    def owner(self) -> str:
        """Whose conversations are shown: those of the key, or everybody's of this machine where none is asked for."""
        return "local" if self.key is None else hashlib.sha256(b"owner " + self.key.encode()).hexdigest()[:32]


async def turned_away(pages: Pages, visitor: Visitor) -> RedirectResponse | None:
    """The way to the door, for who has no key that is known where one is asked for."""
    if pages.locked:
        try:
            await pages.endpoint(visitor.key).models()
        except EndpointError as error:
            if error.status in (401, 403):
                return RedirectResponse(f"{pages.base}/enter")
    return None


def head(pages: Pages, visitor: Visitor, title: str) -> None:
    """Title, look and the browser's part; before anything is shown."""
    ui.page_title(title)
    css, js = ((_HERE / name).read_text(encoding="utf-8") for name in ("look.css", "look.js"))
    paper = {True: "#1a1918", False: "#fcfbf9"}
    first = (
        f"html{{background:{paper[visitor.dark]}}}"
        if visitor.dark is not None
        else f"html{{background:{paper[False]}}}@media(prefers-color-scheme:dark){{html{{background:{paper[True]}}}}}"
    )
    # Formulas need a font that knows how they are built, and few machines have one.
    maths = f'@font-face{{font-family:"STIX Two Math of dokja";src:url("{pages.base}/maths.ttf");font-display:swap}}'
    lang = f'<script>document.documentElement.lang="{visitor.language}"</script>'
    ui.add_head_html(f"{lang}<style>{first}{maths}</style><style>{css}</style><script>{js}</script>")
    ui.dark_mode(visitor.dark)


class Frame:
    """The frame of a page; `with frame.main():` is where the page goes."""

    def __init__(self, pages: Pages, visitor: Visitor, open_thread: Callable[[str | None], object] | None) -> None:
        """open_thread: shows a conversation without leaving the page (None: there is no such place on it)."""
        self.pages, self.visitor, self._open_thread = pages, visitor, open_thread
        self.current: str | None = None
        self._app = box("div", "app" if visitor.side else "app side-shut")
        with self._app:
            with attribute(box("aside", "side"), aria_label=self.say("threads")):
                self._side()
            box("div", "scrim")

    def say(self, key: str, **values: object) -> str:
        """The sentence in the visitor's language."""
        return say(key, self.visitor.language, **values)

    @contextmanager
    def main(self) -> Iterator[ui.element]:
        """The place of the page."""
        with self._app, box("main", "main") as main:
            yield main

    def _side(self) -> None:
        with box("div", "brand"):
            Words("span", "dokja", "name")
            button("menu", self.say("key_side"), None, "ghost side-toggle")
        new = button("plus", self.say("new"), lambda: self._go(None), "new", words=True).mark("new")
        attribute(new, title=f"{self.say('new')} (Ctrl+Shift+O)")
        self._list = attribute(box("nav", "threads"), aria_label=self.say("threads"))
        with box("div", "side-foot"):
            on_runs = self._open_thread is None
            link = box("a", "link")
            attribute(link, href=f"{self.pages.base}/" if on_runs else f"{self.pages.base}/runs")
            with link:
                icon("chat" if on_runs else "chart")
                Words("span", self.say("chat" if on_runs else "runs"))
            keys = button("keys", self.say("keys"), self._show_keys, "link help", words=True)
            attribute(keys, style="width: calc(100% - 20px)")
            if self.pages.locked:
                with attribute(box("a", "link"), href=f"{self.pages.base}/leave"):
                    icon("leave")
                    Words("span", self.say("leave"))
            themes = {None: "theme_auto", False: "theme_light", True: "theme_dark"}
            names = {None: "auto", False: "light", True: "dark"}
            self._segments(
                "theme", [(names[v], self.say(k)) for v, k in themes.items()], names[self.visitor.dark], self._theme
            )
            self._segments("language", [("ko", "한국어"), ("en", "English")], self.visitor.language, self._language)
        self.list_threads()

    def _segments(self, label: str, choices: list[tuple[str, str]], chosen: str, act: Callable[[str], object]) -> None:
        with box("div", "row"):
            Words("span", self.say(label))
            segments(choices, chosen, act, self.say(label))

    def _theme(self, name: str) -> None:
        value = {"auto": "null", "light": "false", "dark": "true"}[name]
        ui.run_javascript(f'dokja.keep("theme", "{name}"); setDark({value});')

    def _language(self, name: str) -> None:
        ui.run_javascript(f'dokja.keep("language", "{name}"); location.reload();')

    def list_threads(self) -> None:
        """Shows the conversations as they are now."""
        self._list.clear()
        heads = self.pages.threads.heads(self.visitor.owner)
        with self._list:
            if not heads:
                Words("div", self.say("no_threads"), "none")
            age = ""
            for one in heads:
                days = (time.time() - one.updated) / _DAY
                if (now := "today" if days < 1 else "week" if days < 7 else "older") != age:
                    age = now
                    Words("h3", self.say(now))
                self._entry(one)

    def _entry(self, one: Head) -> None:
        with box("div", "thread on" if one.id == self.current else "thread"):
            link = attribute(Words("a", one.title), title=one.title, href=f"{self.pages.base}/t/{one.id}")
            if self._open_thread is not None:
                plain = "(e) => { if (!e.ctrlKey && !e.metaKey) { e.preventDefault(); emit(); } }"
                link.on("click", lambda: self._go(one.id), js_handler=plain)
            with button("more", self.say("menu"), None, "more").mark("more"), ui.menu().props("auto-close"):
                self.choice("edit", self.say("rename"), lambda: self._rename(one)).mark("rename")
                self.choice("bin", self.say("delete"), lambda: self._delete(one)).classes("bad").mark("delete")

    def choice(self, drawing: str, label: str, act: Callable[[], object]) -> ui.element:
        """A line of a menu."""
        made = attribute(box("button", "choice"), type="button").on("click", act, args=[])
        with made:
            icon(drawing)
            Words("span", label, "grow")
        return made

    def _go(self, thread: str | None) -> None:
        if self._open_thread is None:
            ui.navigate.to("/" if thread is None else f"/t/{thread}")  # nicegui adds the base
        else:
            self._open_thread(thread)

    def _rename(self, one: Head) -> None:
        def keep(title: str) -> None:
            title = " ".join(title.split())[:120]
            if title:
                self.pages.threads.rename(self.visitor.owner, one.id, title)
                self.list_threads()
            dialog.close()

        with self.sheet(self.say("rename")) as dialog:
            field = box("input", "field").mark("title")
            attribute(field, value=one.title, maxlength=120, aria_label=self.say("rename"))
            field.on("keydown", lambda e: keep(str(e.args)), js_handler=_ON_ENTER)
            with box("div", "acts"):
                button(None, self.say("cancel"), dialog.close, "plain", words=True)
                save = button(None, self.say("save"), None, "solid", words=True).mark("save")
                read = "(e) => emit(e.target.closest('.sheet').querySelector('input').value)"
                save.on("click", lambda e: keep(str(e.args)), js_handler=read)

    def _delete(self, one: Head) -> None:
        def act() -> None:
            self.pages.threads.delete(self.visitor.owner, one.id)
            dialog.close()
            if one.id == self.current:
                self._go(None)
            self.list_threads()

        with self.sheet(self.say("delete_sure")) as dialog, box("div", "acts"):
            button(None, self.say("cancel"), dialog.close, "plain", words=True)
            button(None, self.say("delete"), act, "solid bad", words=True).mark("delete-sure")

    def _show_keys(self) -> None:
        with self.sheet(self.say("keys")) as dialog:
            with box("dl"):
                for what, keys in KEYS:
                    Words("dt", self.say(what))
                    with box("dd"):
                        for i, key in enumerate(keys.split("+")):
                            if i:
                                Words("span", " + ")
                            Words("kbd", key)
            with box("div", "acts"):
                button(None, self.say("close"), dialog.close, "plain", words=True)

    @contextmanager
    def sheet(self, title: str) -> Iterator[ui.dialog]:
        """A dialog with this title, shown at once."""
        with self._app, ui.dialog() as dialog, attribute(box("div", "sheet"), aria_label=title):
            Words("h2", title)
            yield dialog
        dialog.on("hide", dialog.delete)
        dialog.open()


def segments(choices: list[tuple[str, str]], chosen: str, act: Callable[[str], object], label: str) -> ui.element:
    """A few choices beside each other, one of them chosen."""
    made = attribute(box("div", "segments"), role="radiogroup", aria_label=label)
    buttons: dict[str, ui.element] = {}

    def choose(name: str) -> None:
        for other, element in buttons.items():
            element.classes("on" if other == name else "", remove="" if other == name else "on")
            attribute(element, aria_checked=str(other == name).lower())
        act(name)

    with made:
        for name, words in choices:
            one = Words("button", words, "on" if name == chosen else "").mark(name)
            attribute(one, type="button", role="radio", aria_checked=str(name == chosen).lower())
            one.on("click", lambda name=name: choose(name), args=[])
            buttons[name] = one
    return made


_ON_ENTER = "(e) => { if (e.key === 'Enter' && !e.isComposing) emit(e.target.value); }"
