"""What the terminal says, in Korean and English."""

import os
from typing import Literal, cast

Language = Literal["ko", "en"]

STRINGS: dict[str, dict[Language, str]] = {
    "welcome": {
        "en": "{name} · /think and /no_think switch the mode, /reset forgets, /quit leaves, Ctrl-C stops an answer.",
        "ko": "{name} · /think, /no_think 생각 켜고 끄기, /reset 대화 지우기, /quit 끝내기, Ctrl-C 답 멈추기.",
    },
    "you": {"en": "you", "ko": "나"},
    "thought": {"en": "[thought {tokens} tokens, {seconds:.1f} s]", "ko": "[생각 {tokens}토큰, {seconds:.1f}초]"},
    "unfinished": {
        "en": "[the thought was not finished; raise --max-tokens]",
        "ko": "[생각이 끝나지 않았습니다. --max-tokens 값을 늘려 보세요]",
    },
    "cut": {"en": "[cut off at the token limit]", "ko": "[토큰 한도에서 잘렸습니다]"},
    "stopped": {"en": "[stopped]", "ko": "[멈춤]"},
    "think_on": {"en": "The model thinks before it answers.", "ko": "생각한 뒤에 답합니다."},
    "think_off": {"en": "The model answers at once.", "ko": "바로 답합니다."},
    "one_mode": {"en": "This model knows only one mode.", "ko": "이 모델에는 한 가지 모드만 있습니다."},
    "reset": {"en": "The conversation starts anew.", "ko": "대화를 새로 시작합니다."},
    "unknown": {
        "en": "There is no command {command}. Commands: /think /no_think /image FILE /reset /quit",
        "ko": "{command} 명령은 없습니다. 명령: /think /no_think /image 파일 /reset /quit",
    },
    "image": {
        "en": "{path} ({width} x {height}) goes with your next message.",
        "ko": "{path} ({width} x {height}) 그림을 다음 말과 함께 보여 줍니다.",
    },
    "blind": {"en": "This model cannot see images.", "ko": "이 모델은 그림을 볼 수 없습니다."},
    "forgot": {
        "en": "[the conversation outgrew the model's context; its oldest turns were left out]",
        "ko": "[대화가 모델의 문맥보다 길어져 오래된 차례를 뺐습니다]",
    },
    "bye": {"en": "Bye.", "ko": "안녕히 가세요."},
}


def pick_language(asked: str | None = None) -> Language:
    """`asked` when it is one of ours, else what the locale says (LC_ALL, LC_MESSAGES, LANG), else English."""
    if asked in ("ko", "en"):
        return cast(Language, asked)
    locale = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := os.environ.get(name))), "")
    return "ko" if locale.startswith("ko") else "en"


def say(key: str, language: Language, **values: object) -> str:
    """The sentence `key` with its values filled in."""
    return STRINGS[key][language].format(**values)
