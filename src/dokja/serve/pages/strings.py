"""What the pages say, in Korean and English."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

Language = Literal["ko", "en"]

STRINGS: dict[str, tuple[str, str]] = {
    # name: (English, Korean)
    "new": ("New chat", "새 대화"),
    "threads": ("Conversations", "대화"),
    "no_threads": ("Nothing here yet.", "아직 대화가 없습니다."),
    "today": ("Today", "오늘"),
    "week": ("Last seven days", "지난 7일"),
    "older": ("Older", "이전"),
    "runs": ("Runs", "학습 현황"),
    "chat": ("Chat", "대화"),
    "menu": ("Conversations and settings", "대화 목록과 설정"),
    "close": ("Close", "닫기"),
    "rename": ("Rename", "이름 바꾸기"),
    "delete": ("Delete", "삭제"),
    "delete_sure": (
        "Delete this conversation? It cannot be brought back.",
        "이 대화를 삭제할까요? 되돌릴 수 없습니다.",
    ),
    "cancel": ("Cancel", "취소"),
    "save": ("Save", "저장"),
    "hello": ("What shall we think about?", "무엇을 함께 생각해 볼까요?"),
    "hello_more": (
        "Answers come from the model on this server and stay here.",
        "이 서버의 모델이 답합니다. 대화는 밖으로 나가지 않습니다.",
    ),
    "ask": ("Ask anything", "무엇이든 물어보세요"),
    "send": ("Send", "보내기"),
    "stop": ("Stop", "멈추기"),
    "picture": ("Add a picture", "그림 넣기"),
    "no_sight": ("This model cannot see pictures.", "이 모델은 그림을 볼 수 없습니다."),
    "bad_picture": ("This picture cannot be used: {why}", "이 그림은 쓸 수 없습니다: {why}"),
    "picture_kind": ("PNG, JPEG, WebP or GIF up to {mb} MB", "PNG, JPEG, WebP, GIF, {mb}MB까지"),
    "remove": ("Remove", "빼기"),
    "think": ("Think", "생각"),
    "think_on": ("Thinks before it answers", "생각한 뒤에 답합니다"),
    "think_off": ("Answers at once", "바로 답합니다"),
    "think_only": ("This model always thinks", "이 모델은 늘 생각합니다"),
    "think_never": ("This model always answers at once", "이 모델은 늘 바로 답합니다"),
    "effort": ("Effort", "생각의 깊이"),
    "low": ("Low", "얕게"),
    "medium": ("Medium", "보통"),
    "high": ("High", "깊게"),
    "model": ("Model", "모델"),
    "compare": ("Compare with", "나란히 비교"),
    "compare_end": ("One model again", "비교 끝내기"),
    "thinks": ("thinks", "생각"),
    "sees": ("sees pictures", "그림을 봅니다"),
    "thinking": ("Thinking", "생각하는 중"),
    "thought": ("Thought", "생각"),
    "writing": ("Writing", "쓰는 중"),
    "seconds": ("{n} s", "{n}초"),
    "minutes": ("{m} min {s} s", "{m}분 {s}초"),
    "tokens": ("{n} tokens", "{n}토큰"),
    "speed": ("{n} tokens/s", "초당 {n}토큰"),
    "copy": ("Copy", "복사"),
    "retry": ("Again", "다시"),
    "edit": ("Edit", "고치기"),
    "earlier": ("Earlier version", "이전 답"),
    "later": ("Later version", "다음 답"),
    "end_stopped": ("Stopped.", "멈췄습니다."),
    "end_length": ("Cut off at the token limit.", "토큰 한도에서 잘렸습니다."),
    "end_lost": ("The connection broke before the end.", "답이 끝나기 전에 연결이 끊겼습니다."),
    "end_killed": ("The server ended while this was written.", "쓰는 동안 서버가 꺼졌습니다."),
    "end_busy": ("The server is busy. Try again in a moment.", "서버가 바쁩니다. 잠시 뒤에 다시 해 보세요."),
    "end_loading": (
        "The model is not ready yet. Try again in a moment.",
        "모델이 아직 준비되지 않았습니다. 잠시 뒤에 다시 해 보세요.",
    ),
    "end_away": ("The server cannot be reached.", "서버에 닿지 않습니다."),
    "end_key": ("The key is not accepted any more. Sign in again.", "키를 더 쓸 수 없습니다. 다시 들어와 주세요."),
    "end_refused": ("The server refused this: {why}", "서버가 받지 않았습니다: {why}"),
    "empty": ("The model said nothing.", "모델이 아무 말도 하지 않았습니다."),
    "no_models": ("The model is being loaded …", "모델을 불러오는 중입니다 …"),
    "theme": ("Theme", "화면"),
    "theme_auto": ("System", "시스템"),
    "theme_light": ("Light", "밝게"),
    "theme_dark": ("Dark", "어둡게"),
    "language": ("Language", "언어"),
    "keys": ("Keyboard", "단축키"),
    "key_send": ("Send", "보내기"),
    "key_line": ("New line", "줄바꿈"),
    "key_stop": ("Stop the answer", "답 멈추기"),
    "key_new": ("New chat", "새 대화"),
    "key_side": ("Show or hide the list", "목록 보이기·숨기기"),
    "key_think": ("Thinking on or off", "생각 켜기·끄기"),
    "key_focus": ("To the text field", "입력창으로"),
    "key_help": ("These shortcuts", "단축키 보기"),
    "login": ("This server asks for a key.", "이 서버는 키가 필요합니다."),
    "login_more": (
        "Ask whoever runs the server for one. It stays in this browser.",
        "서버를 운영하는 사람에게 받으세요. 키는 이 브라우저에만 남습니다.",
    ),
    "key": ("Key", "키"),
    "enter": ("Enter", "들어가기"),
    "wrong_key": ("This key is not known here.", "등록되지 않은 키입니다."),
    "leave": ("Sign out", "나가기"),
    "gone": ("This conversation is not here.", "이 대화는 없습니다."),
    "bottom": ("To the end", "맨 아래로"),
}


def say(key: str, language: Language, **values: object) -> str:
    """The sentence `key` with its values filled in."""
    return STRINGS[key][language == "ko"].format(**values)


def pick_language(chosen: str | None, accepts: str) -> Language:
    """What was chosen, else the first of ours in the browser's Accept-Language, else English."""
    if chosen in ("ko", "en"):
        return cast(Language, chosen)
    ranked: list[tuple[float, int, str]] = []
    for i, part in enumerate(accepts.split(",")):
        tag, _, weight = part.strip().partition(";q=")
        try:
            ranked.append((-float(weight or 1), i, tag[:2].lower()))
        except ValueError:
            continue
    return cast(Language, next((tag for _, _, tag in sorted(ranked) if tag in ("ko", "en")), "en"))


def duration(seconds: float, language: Language) -> str:
    """0.84 -> "0.8 s", 75 -> "1 min 15 s"; whole numbers stay whole."""
    if seconds < 60:
        fine = isinstance(seconds, float) and seconds < 10
        return say("seconds", language, n=f"{seconds:.1f}" if fine else f"{seconds:.0f}")
    return say("minutes", language, m=int(seconds) // 60, s=int(seconds) % 60)


def cookie(cookies: Mapping[str, str], name: str) -> str | None:
    """A setting that the browser keeps for us."""
    return cookies.get(f"dokja_{name}")
