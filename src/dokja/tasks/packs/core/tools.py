"""Calls of tools: a request, the tools at hand, and the calls that answer it.

The tools belong to a small office that exists only here (`carry_out`): a calendar, a cupboard, messages, rooms, a
converter of units. Carried out, the right calls leave it in the state that the request asks for: the second grader.

| kind | right is |
|---|---|
| one | one call among many tools |
| choice | the tool whose limits fit |
| several | several calls, in any order |
| order | several calls, in this order |
| default | a call that leaves an optional argument out, or names it |
| none | no call: the request needs none, or no tool can do it |
"""

# ruff: noqa: E501 - tables of sentences in two languages

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dokja.tasks.packs.readers import Item

_TOOLS: dict[str, tuple[str, str, dict[str, tuple[str, str, str, bool]]]] = {
    "add_event": (
        "Put an event into the calendar.", "일정표에 일정을 넣는다.",
        {"title": ("string", "what it is", "일정 이름", True), "day": ("string", "YYYY-MM-DD", "YYYY-MM-DD", True),
         "start": ("string", "HH:MM, 24 hours", "HH:MM, 24시간제", True),
         "minutes": ("integer", "how long; 60 if left out", "길이(분), 생략하면 60", False)},
    ),
    "cancel_event": (
        "Take an event out of the calendar.", "일정표에서 일정을 지운다.",
        {"title": ("string", "what it is", "일정 이름", True), "day": ("string", "YYYY-MM-DD", "YYYY-MM-DD", True)},
    ),
    "take_item": (
        "Take things out of the cupboard.", "창고에서 물건을 꺼낸다.",
        {"item": ("string", "pens, paper, cables or boxes", "펜, 종이, 케이블, 상자 가운데 하나", True), "count": ("integer", "how many", "개수", True)},
    ),
    "restock_item": (
        "Order things for the cupboard.", "창고에 채울 물건을 주문한다.",
        {"item": ("string", "pens, paper, cables or boxes", "펜, 종이, 케이블, 상자 가운데 하나", True), "count": ("integer", "how many", "개수", True)},
    ),
    "send_message": (
        "Send a short message to one person.", "한 사람에게 짧은 메시지를 보낸다.",
        {"to": ("string", "name of the person", "받는 사람 이름", True), "text": ("string", "the message", "보낼 글", True)},
    ),
    "book_room": (
        "Book a meeting room. Room A seats 4, room B seats 10, room C seats 30.",
        "회의실을 예약한다. A는 4명, B는 10명, C는 30명까지 쓸 수 있다.",
        {"room": ("string", "A, B or C", "A, B, C 가운데 하나", True), "day": ("string", "YYYY-MM-DD", "YYYY-MM-DD", True),
         "start": ("string", "HH:MM, 24 hours", "HH:MM, 24시간제", True)},
    ),
    "convert": (
        "Convert a length or a mass.", "길이나 무게의 단위를 바꾼다.",
        {"value": ("number", "the figure", "수치", True), "unit": ("string", "m, km, cm, kg or g", "m, km, cm, kg, g", True),
         "to": ("string", "m, km, cm, kg or g", "m, km, cm, kg, g", True)},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One request in both languages, and the calls that fulfil it."""

    kind: str
    english: str
    korean: str
    calls: Sequence[tuple[str, dict[str, Any]]]
    """names with arguments; a value as a tuple (English, Korean) differs by language"""
    state: dict[str, Any]
    """what the office looks like afterwards, with the same pairs"""


def _r(kind: str, english: str, korean: str, calls: Any, state: dict[str, Any]) -> Request:
    return Request(kind, english, korean, calls, state)


_PEN, _PAPER, _CABLE, _BOX = ("pens", "펜"), ("paper", "종이"), ("cables", "케이블"), ("boxes", "상자")
_MEET, _LUNCH, _REVIEW, _VISIT = (
    ("team meeting", "팀 회의"),
    ("lunch", "점심"),
    ("design review", "설계 검토"),
    ("factory visit", "공장 방문"),
)
_HANA, _JUN = ("Hana", "하나"), ("Jun", "준")

REQUESTS: tuple[Request, ...] = (
    _r("one", "Take 12 pens out of the cupboard.", "창고에서 펜 12개를 꺼내 줘.",
       [("take_item", {"item": _PEN, "count": 12})], {"taken": {_PEN: 12}}),
    _r("one", "We are out of paper. Order 40 packs of paper.", "종이가 떨어졌어. 종이 40개를 주문해 줘.",
       [("restock_item", {"item": _PAPER, "count": 40})], {"ordered": {_PAPER: 40}}),
    _r("one", "Put a design review into the calendar on 14 March 2027 at half past two in the afternoon, for 90 minutes.",
       "2027년 3월 14일 오후 2시 30분에 90분짜리 설계 검토를 일정표에 넣어 줘.",
       [("add_event", {"title": _REVIEW, "day": "2027-03-14", "start": "14:30", "minutes": 90})],
       {"events": {(_REVIEW, "2027-03-14"): ("14:30", 90)}}),
    _r("one", "The factory visit on 2 May 2027 will not take place. Take it out of the calendar.",
       "2027년 5월 2일의 공장 방문은 취소됐어. 일정표에서 지워 줘.",
       [("cancel_event", {"title": _VISIT, "day": "2027-05-02"})], {"cancelled": [(_VISIT, "2027-05-02")]}),
    _r("one", "How many metres are 7.5 km? Use a tool.", "7.5 km는 몇 m야? 도구를 써서 알려 줘.",
       [("convert", {"value": 7.5, "unit": "km", "to": "m"})], {"converted": [7500.0]}),
    _r("one", "Send Hana exactly this message: The door is open.", "하나에게 정확히 이렇게 보내 줘: 문이 열려 있어요.",
       [("send_message", {"to": _HANA, "text": ("The door is open.", "문이 열려 있어요.")})],
       {"sent": {_HANA: ("The door is open.", "문이 열려 있어요.")}}),
    _r("choice", "Book the smallest room that seats 8 people on 9 June 2027 at 10 in the morning.",
       "2027년 6월 9일 오전 10시에 8명이 들어가는 가장 작은 회의실을 예약해 줘.",
       [("book_room", {"room": "B", "day": "2027-06-09", "start": "10:00"})], {"rooms": {("2027-06-09", "10:00"): "B"}}),
    _r("choice", "Three of us need a room on 1 July 2027 at 4 in the afternoon. Book the smallest one that fits.",
       "2027년 7월 1일 오후 4시에 우리 세 명이 쓸 회의실이 필요해. 들어갈 수 있는 가장 작은 곳으로 예약해 줘.",
       [("book_room", {"room": "A", "day": "2027-07-01", "start": "16:00"})], {"rooms": {("2027-07-01", "16:00"): "A"}}),
    _r("choice", "A talk for 25 listeners on 20 August 2027, 1 in the afternoon: book a room that is large enough.",
       "2027년 8월 20일 오후 1시에 청중 25명이 듣는 강연이 있어. 넉넉한 회의실을 예약해 줘.",
       [("book_room", {"room": "C", "day": "2027-08-20", "start": "13:00"})], {"rooms": {("2027-08-20", "13:00"): "C"}}),
    _r("choice", "The cupboard should get 15 cables; the supplier will bring them.", "창고에 케이블 15개가 들어오게 해 줘. 업체가 가져올 거야.",
       [("restock_item", {"item": _CABLE, "count": 15})], {"ordered": {_CABLE: 15}}),
    _r("several", "Take 3 boxes and 2 cables out of the cupboard.", "창고에서 상자 3개와 케이블 2개를 꺼내 줘.",
       [("take_item", {"item": _BOX, "count": 3}), ("take_item", {"item": _CABLE, "count": 2})],
       {"taken": {_BOX: 3, _CABLE: 2}}),
    _r("several", "Send Hana and Jun the same message, each their own: Lunch is at noon.",
       "하나와 준에게 똑같은 메시지를 따로따로 보내 줘: 점심은 정오예요.",
       [("send_message", {"to": _HANA, "text": ("Lunch is at noon.", "점심은 정오예요.")}),
        ("send_message", {"to": _JUN, "text": ("Lunch is at noon.", "점심은 정오예요.")})],
       {"sent": {_HANA: ("Lunch is at noon.", "점심은 정오예요."), _JUN: ("Lunch is at noon.", "점심은 정오예요.")}}),
    _r("several", "What are 250 cm in m, and 3 kg in g? Use the tool for both.", "250 cm는 몇 m이고, 3 kg은 몇 g이야? 둘 다 도구를 써 줘.",
       [("convert", {"value": 250, "unit": "cm", "to": "m"}), ("convert", {"value": 3, "unit": "kg", "to": "g"})],
       {"converted": [2.5, 3000.0]}),
    _r("several", "Book room A on 3 and on 4 September 2027, both days at 9 in the morning.",
       "2027년 9월 3일과 4일, 이틀 모두 오전 9시에 회의실 A를 예약해 줘.",
       [("book_room", {"room": "A", "day": "2027-09-03", "start": "09:00"}), ("book_room", {"room": "A", "day": "2027-09-04", "start": "09:00"})],
       {"rooms": {("2027-09-03", "09:00"): "A", ("2027-09-04", "09:00"): "A"}}),
    _r("order", "First order 20 pens, then take 5 pens out of the cupboard. In this order.", "먼저 펜 20개를 주문하고, 그다음 창고에서 펜 5개를 꺼내 줘. 꼭 이 순서로.",
       [("restock_item", {"item": _PEN, "count": 20}), ("take_item", {"item": _PEN, "count": 5})], {"ordered": {_PEN: 20}, "taken": {_PEN: 5}}),
    _r("order", "Cancel the lunch on 6 October 2027 first, then tell Jun: Lunch is cancelled.", "2027년 10월 6일의 점심 일정을 먼저 지우고, 그다음 준에게 이렇게 보내 줘: 점심은 취소됐어요.",
       [("cancel_event", {"title": _LUNCH, "day": "2027-10-06"}), ("send_message", {"to": _JUN, "text": ("Lunch is cancelled.", "점심은 취소됐어요.")})],
       {"cancelled": [(_LUNCH, "2027-10-06")], "sent": {_JUN: ("Lunch is cancelled.", "점심은 취소됐어요.")}}),
    _r("order", "Book room B for 5 November 2027, 11 in the morning, and after that put the team meeting of that time into the calendar, 30 minutes.",
       "2027년 11월 5일 오전 11시에 회의실 B를 예약하고, 그런 다음 같은 시각의 30분짜리 팀 회의를 일정표에 넣어 줘.",
       [("book_room", {"room": "B", "day": "2027-11-05", "start": "11:00"}), ("add_event", {"title": _MEET, "day": "2027-11-05", "start": "11:00", "minutes": 30})],
       {"rooms": {("2027-11-05", "11:00"): "B"}, "events": {(_MEET, "2027-11-05"): ("11:00", 30)}}),
    _r("default", "Put lunch into the calendar on 8 April 2027 at 12:00, of the usual length.", "2027년 4월 8일 12시에 평소 길이로 점심을 일정표에 넣어 줘.",
       [("add_event", {"title": _LUNCH, "day": "2027-04-08", "start": "12:00", "minutes?": 60})], {"events": {(_LUNCH, "2027-04-08"): ("12:00", 60)}}),
    _r("default", "A team meeting of one hour on 18 January 2027 at 15:30: put it into the calendar.", "2027년 1월 18일 15시 30분에 한 시간짜리 팀 회의를 일정표에 넣어 줘.",
       [("add_event", {"title": _MEET, "day": "2027-01-18", "start": "15:30", "minutes?": 60})], {"events": {(_MEET, "2027-01-18"): ("15:30", 60)}}),
    _r("default", "Put a factory visit into the calendar on 27 February 2027 at 8 in the morning, three hours.", "2027년 2월 27일 오전 8시에 세 시간짜리 공장 방문을 일정표에 넣어 줘.",
       [("add_event", {"title": _VISIT, "day": "2027-02-27", "start": "08:00", "minutes": 180})], {"events": {(_VISIT, "2027-02-27"): ("08:00", 180)}}),
    _r("none", "Thank you, that was all for today.", "고마워, 오늘은 이걸로 됐어.", [], {}),
    _r("none", "What does the word 'compass' mean?", "'나침반'이라는 낱말이 무슨 뜻이야?", [], {}),
    _r("none", "Please water the plants in the hall.", "복도에 있는 화분에 물을 줘.", [], {}),
    _r("none", "How many days does a leap year have?", "윤년은 며칠이야?", [], {}),
)  # fmt: skip

_SYSTEM = {
    "en": (
        "You help in an office and have these tools:\n{tools}\n\nTo call tools, answer with nothing but a JSON list of "
        'calls, each {{"name": ..., "arguments": {{...}}}}. If no call is needed, or no tool can do it, answer in words '
        "without JSON."
    ),
    "ko": (
        "당신은 사무실을 돕고, 다음 도구를 쓸 수 있습니다:\n{tools}\n\n도구를 부르려면 호출의 JSON 목록만 답하세요. 각 호출은 "
        '{{"name": ..., "arguments": {{...}}}} 형식입니다. 부를 필요가 없거나 할 수 있는 도구가 없으면 JSON 없이 말로 답하세요.'
    ),
}


def _said(value: Any, language: str) -> Any:
    """The value in a language: pairs are (English, Korean)."""
    return value[language == "ko"] if isinstance(value, tuple) and len(value) == 2 else value


def tool_list(language: str) -> str:
    """The tools as JSON schemas, one a line."""
    lines = []
    for name, (english, korean, arguments) in _TOOLS.items():
        properties = {
            key: {"type": kind, "description": ko if language == "ko" else en}
            for key, (kind, en, ko, _) in arguments.items()
        }
        required = [key for key, (_, _, _, needed) in arguments.items() if needed]
        schema = {"type": "object", "properties": properties, "required": required}
        said = {"name": name, "description": korean if language == "ko" else english, "parameters": schema}
        lines.append(json.dumps(said, ensure_ascii=False))
    return "\n".join(lines)


def wanted_calls(request: Request, language: str) -> list[dict[str, Any]]:
    """The reference's form: every argument with the list of its allowed values; "" where it may be left out."""
    calls = []
    for name, arguments in request.calls:
        allowed = {}
        for key, value in arguments.items():
            said = _said(value, language)
            extra = [said.rstrip(".")] if key == "text" else []  # a message's final full stop is its sender's business
            allowed[key.rstrip("?")] = [said, *extra, *([""] if key.endswith("?") else [])]
        calls.append({"name": name, "arguments": allowed})
    return calls


def plain_calls(request: Request, language: str) -> list[dict[str, Any]]:
    """The calls as a model makes them."""
    return [
        {"name": name, "arguments": {k.rstrip("?"): _said(v, language) for k, v in arguments.items()}}
        for name, arguments in request.calls
    ]


_SCALE = {"m": 1.0, "km": 1000.0, "cm": 0.01, "kg": 1.0, "g": 0.001}


def carry_out(calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The state in which calls leave the office, only what changed. KeyError for a tool or an argument it lacks."""
    state: dict[str, Any] = {}
    for call in calls:
        name, a = call["name"], call["arguments"]
        unknown = a.keys() - _TOOLS[name][2].keys()
        if unknown:
            raise KeyError(f"{name} has no {sorted(unknown)}")
        if name == "add_event":
            state.setdefault("events", {})[a["title"], a["day"]] = (a["start"], a.get("minutes", 60))
        elif name == "cancel_event":
            state.setdefault("cancelled", []).append((a["title"], a["day"]))
        elif name in ("take_item", "restock_item"):
            counts = state.setdefault("taken" if name == "take_item" else "ordered", {})
            counts[a["item"]] = counts.get(a["item"], 0) + a["count"]
        elif name == "send_message":
            state.setdefault("sent", {})[a["to"]] = a["text"]
        elif name == "book_room":
            state.setdefault("rooms", {})[a["day"], a["start"]] = a["room"]
        else:
            state.setdefault("converted", []).append(a["value"] * _SCALE[a["unit"]] / _SCALE[a["to"]])
    return state


def wanted_state(request: Request, language: str) -> dict[str, Any]:
    """The state that a request asks for, in a language."""

    def said(value: Any, pair: bool = True) -> Any:
        if isinstance(value, dict):
            return {said(k): said(v) for k, v in value.items()}
        if isinstance(value, list):
            return [said(v) for v in value]
        if isinstance(value, tuple) and any(isinstance(v, tuple) for v in value):
            return tuple(said(v) for v in value)
        if isinstance(value, tuple) and len(value) == 2 and value in _PAIRS:
            return _said(value, language)
        return value

    found = said(request.state)
    assert isinstance(found, dict)
    return found


_PAIRS = {
    value
    for request in REQUESTS
    for _, arguments in request.calls
    for value in arguments.values()
    if isinstance(value, tuple)
}


def items(name: str, language: str, options: Mapping[str, Any]) -> list[Item]:
    """All requests in a language."""
    system = _SYSTEM[language].format(tools=tool_list(language))
    return [
        Item(
            f"{request.kind}-{number}",
            {"question": request.korean if language == "ko" else request.english},
            {"calls": wanted_calls(request, language), "ordered": request.kind == "order"},
            tags=(request.kind,),
            system=system,
        )
        for number, request in enumerate(REQUESTS)
    ]
