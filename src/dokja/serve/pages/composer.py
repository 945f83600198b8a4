"""Where the person writes: text, pictures, thinking and its effort, send or stop."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable

from nicegui import events, ui

from dokja.errors import DokjaError
from dokja.serve.pages.asking import EFFORTS, Setting
from dokja.serve.pages.endpoint import ModelCard
from dokja.serve.pages.frame import Frame, segments
from dokja.serve.pages.parts import Words, attribute, box, button, icon, raw

_SHOWN = ("image/png", "image/jpeg", "image/webp", "image/gif")
_KINDS = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


class Composer:
    """The field at the foot of the page. `fit` shows what the chosen models can; `busy` turns send into stop."""

    def __init__(
        self, frame: Frame, on_say: Callable[[str], None], on_stop: Callable[[], None], on_choose: Callable[[], None]
    ) -> None:
        """on_choose: the setting of `self.setting` was changed."""
        self._frame, self._on_choose = frame, on_choose
        self.setting, self.pictures = Setting(), list[tuple[str, bytes]]()
        self._box = box("div", "composer").mark("composer")
        with self._box:
            self._waits = box("div", "waits")
            self._text = attribute(
                box("textarea", "composer-text").mark("text"),
                rows=1, placeholder=frame.say("ask"), aria_label=frame.say("ask"), autofocus=True,
            )  # fmt: skip
            self._text.on("say", lambda e: on_say(str(e.args)), js_handler="(e) => emit(e.detail)")
            with box("div", "tools"):
                self._upload = ui.upload(
                    multiple=True, auto_upload=True, max_file_size=frame.pages.picture_bytes,
                    on_upload=self._uploaded, on_rejected=self._rejected,
                ).classes("upload").mark("upload")  # fmt: skip
                self._upload.props(f'accept="{",".join(_SHOWN)}"')
                pick = f"() => getElement({self._upload.id}).$refs.qRef.pickFiles()"
                add = button("picture", frame.say("picture"), None, "ghost add-picture")
                add.on("click", js_handler=pick)
                self._think = attribute(box("button", "think").mark("think"), type="button")
                with self._think:
                    icon("think")
                    Words("span", frame.say("think"))
                self._think.on("click", self._switch, args=[])
                self._effort = box("div")
                box("span", "space")
                button("up", f"{frame.say('send')} (Enter)", None, "send").mark("send")
                button("stop", f"{frame.say('stop')} (Esc)", on_stop, "stop").mark("stop")
        with box("div", "hint"):
            raw(
                f"<kbd>Enter</kbd> {frame.say('key_send')} · <kbd>Shift</kbd>+<kbd>Enter</kbd> {frame.say('key_line')}"
                f" · <kbd>Esc</kbd> {frame.say('stop')} · <kbd>?</kbd> {frame.say('keys')}",
                tag="span",
            )

    def fit(self, cards: list[ModelCard]) -> None:
        """Shows what these models, those that will answer, can."""
        choice, thinks = any(c.hybrid for c in cards), any(c.thinks for c in cards)
        on = self.setting.thinking if choice else thinks
        self._think.classes("on" if on else "", remove="" if on else "on")
        why = ("think_on" if on else "think_off") if choice else ("think_only" if thinks else "think_never")
        words = self._frame.say(why) + (" (Ctrl+.)" if choice else "")
        attribute(self._think, disabled=not choice, title=words, aria_pressed=str(on).lower())
        self._think.set_visibility(bool(cards))
        self._effort.clear()
        if on:
            with self._effort:
                choices = [(name, self._frame.say(name)) for name in EFFORTS]
                segments(choices, self.setting.effort, self._deepen, self._frame.say("effort"))
        sees = bool(cards) and all(c.sees for c in cards)
        self._box.classes("sees" if sees else "", remove="" if sees else "sees")
        if not sees and self.pictures:
            self.pictures.clear()
            self._show_pictures()
            ui.notify(self._frame.say("no_sight"), position="top")

    def busy(self, busy: bool) -> None:
        """Whether there is something to stop."""
        self._box.classes("busy" if busy else "", remove="" if busy else "busy")

    def take_pictures(self) -> list[tuple[str, bytes]]:
        """The pictures that go with what is said now."""
        taken, self.pictures = self.pictures, []
        self._show_pictures()
        return taken

    def _switch(self) -> None:
        self.setting.thinking = not self.setting.thinking
        self._on_choose()

    def _deepen(self, effort: str) -> None:
        self.setting.effort = effort
        self._on_choose()

    async def _uploaded(self, event: events.UploadEventArguments) -> None:
        self._upload.reset()
        content = await event.file.read()
        try:
            kind = media_type(content)
            pages = self._frame.pages
            await asyncio.to_thread(_check, content, pages.picture_bytes, pages.picture_pixels)
        except DokjaError as error:
            ui.notify(self._frame.say("bad_picture", why=str(error)), position="top")
            return
        except _Unknown:
            self._rejected()
            return
        self.pictures.append((kind, content))
        self._show_pictures()

    def _rejected(self, _: object = None) -> None:
        mb = self._frame.pages.picture_bytes // 1_000_000
        ui.notify(self._frame.say("bad_picture", why=self._frame.say("picture_kind", mb=mb)), position="top")

    def _show_pictures(self) -> None:
        self._waits.clear()
        with self._waits:
            for i, (kind, content) in enumerate(self.pictures):
                with box("div", "one").mark("waiting-picture"):
                    url = f"data:{kind};base64,{base64.b64encode(content).decode()}"
                    attribute(box("img"), src=url, alt="")
                    button("close", self._frame.say("remove"), lambda i=i: self._drop(i), "off")

    def _drop(self, i: int) -> None:
        del self.pictures[i]
        self._show_pictures()


class _Unknown(Exception):
    """No kind of picture that browsers show."""


def media_type(content: bytes) -> str:
    """Of a picture, from its first bytes; what it is called does not count."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    found = next((kind for start, kind in _KINDS if content.startswith(start)), None)
    if found is None:
        raise _Unknown
    return found


def _check(content: bytes, most_bytes: int, most_pixels: int) -> None:
    """Raises DokjaError for a picture that the server would refuse."""
    from dokja.text.images import read_image  # loads numpy, which the page itself does not need

    read_image(content, most_bytes, most_pixels)
