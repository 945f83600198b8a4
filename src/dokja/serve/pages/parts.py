"""Small parts that the pages are made of: tags, words, icons, buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

_STROKES = {
    "plus": "M12 5v14M5 12h14",
    "menu": "M4 7h16M4 12h16M4 17h10",
    "up": "M12 19V6M6 11l6-6 6 6",
    "down": "M12 5v13M6 13l6 6 6-6",
    "stop": "M7 7h10v10H7z",
    "copy": "M9 9h10v11H9zM15 9V5H5v11h4",
    "check": "M5 13l4 4L19 7",
    "retry": "M19 12a7 7 0 1 1-2.2-5.1M17 3v4.2h-4.2",
    "edit": "M5 19l1-4L16 5l3 3L9 18zM14 7l3 3",
    "bin": "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
    "picture": "M4 5h16v14H4zM4 16l5-5 4 4 2.5-2.5L20 17M15.5 9.2a.3.3 0 1 0 .01 0",
    "think": "M11 3l2 6 6 2-6 2-2 6-2-6-6-2 6-2zM18.5 16l.8 2 2 .8-2 .8-.8 2-.8-2-2-.8 2-.8z",
    "columns": "M4 5h16v14H4zM12 5v14",
    "look": "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
    "globe": "M12 4a8 8 0 1 0 .01 0M4.5 12h15M12 4c-5 5-5 11 0 16M12 4c5 5 5 11 0 16",
    "keys": "M3 7h18v10H3zM7 11h.01M11 11h.01M15 11h.01M17 14h.01M8 14h6",
    "chart": "M4 4v16h16M8 15l3.5-4.5 3 2.5L20 7",
    "left": "M14 6l-6 6 6 6",
    "right": "M10 6l6 6-6 6",
    "fold": "M7 10l5 5 5-5",
    "close": "M6 6l12 12M18 6L6 18",
    "more": "M6 12h.01M12 12h.01M18 12h.01",
    "chat": "M4 5h16v11H10l-4 4v-4H4z",
    "leave": "M10 5H5v14h5M14 8l4 4-4 4M18 12H9",
}


class Words(TextElement):
    """A tag with words in it; what is in them is never read as HTML."""

    def __init__(self, tag: str, text: str, classes: str = "") -> None:
        super().__init__(tag=tag, text=text)
        self.classes(classes)


def box(tag: str = "div", classes: str = "") -> ui.element:
    """A tag that holds others."""
    return ui.element(tag).classes(classes)


def raw(content: str, classes: str = "", tag: str = "div") -> ui.html:
    """HTML that was made or sanitised here."""
    return ui.html(content, sanitize=False, tag=tag).classes(classes)


def icon(name: str) -> ui.html:
    """A line drawing in the colour of its text."""
    return raw(f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{_STROKES[name]}"/></svg>', "icon", "span")


def attribute(element: ui.element, **values: object) -> ui.element:
    """Sets attributes whose values may hold anything."""
    for name, value in values.items():
        element.props[name.rstrip("_").replace("_", "-")] = value
    element.update()
    return element


def button(
    drawing: str | None, label: str, act: Callable[..., Any] | None = None, classes: str = "ghost", words: bool = False
) -> ui.element:
    """A button with an icon, its label beside it or as what a screen reader says and a mouse shows."""
    made = box("button", classes)
    attribute(made, type="button")
    if not words:
        attribute(made, aria_label=label, title=label)
    with made:
        if drawing:
            icon(drawing)
        if words:
            Words("span", label)
    if act is not None:
        made.on("click", act, args=[])
    return made
