"""Long contexts made from seeds, in both languages: a needle by length and depth, and RULER-style tasks.

The haystack is plain sentences about people, places and things, drawn from tables: no text of anybody's. Lengths are in
tokens by a rule of thumb (4 characters of English to the token, 2 of Korean), since every tokenizer counts its own.

| kind | asked for | after |
|---|---|---|
| needle | the one odd sentence, at a depth | needle-in-a-haystack grids |
| single, multikey | the number of one name, alone or among many names | RULER niah_single, niah_multikey |
| multivalue | every number of one name | RULER niah_multivalue |
| tracking | every name that was given a value, through a chain of "is what ... is" | RULER variable tracking |
| words | the three commonest words of a list | RULER common words extraction |

Hsieh et al., RULER, arXiv:2404.06654, for the tasks' idea.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any

from dokja.errors import ConfigError
from dokja.tasks.graders.instructions.prose import listed
from dokja.tasks.korean import josa
from dokja.tasks.packs.readers import Item

CHARACTERS = {"en": 4, "ko": 2}
"""to a token, by rule of thumb"""

_PEOPLE = {
    "en": listed(
        """Ada Boris Clara Dmitri Elena Felix Greta Hugo Irene Jonas Karin Leon Mara Nils Olga Pablo Quentin Rosa
        Stefan Tilda"""
    ),
    "ko": listed(
        """민준 서연 도윤 지우 하준 서윤 은우 하은 시우 지민 유준 수아 예준 다은 주원 채원 지호 소율 건우 나은"""
    ),
}  # fmt: skip
_PLACES = {
    "en": listed("""harbour market library station orchard bakery museum bridge valley workshop garden lighthouse"""),
    "ko": listed("""항구 시장 도서관 기차역 과수원 빵집 박물관 다리 골짜기 작업실 정원 등대"""),
}
_THINGS = {
    "en": listed("""lantern basket ladder kettle map violin wheel blanket compass jar rope clock"""),
    "ko": listed("""등불 바구니 사다리 주전자 지도 바이올린 바퀴 담요 나침반 항아리 밧줄 시계"""),
}
_DAYS = {
    "en": ["in the morning", "before noon", "after lunch", "in the evening", "on a rainy day", "early in spring"],
    "ko": ["아침에", "정오 전에", "점심 뒤에", "저녁에", "비 오는 날에", "이른 봄에"],
}
_VERBS = {
    "en": ["carried", "repaired", "painted", "found", "sold", "borrowed"],
    "ko": ["옮겼다", "고쳤다", "칠했다", "찾았다", "팔았다", "빌렸다"],
}
_KEYS = {
    "en": listed(
        """amber birch coral delta ember fjord glacier heron ivory jasper kelp lotus maple nectar onyx pearl quartz
        reed sable topaz umber violet willow zephyr"""
    ),
    "ko": listed(
        """호박 자작 산호 삼각 잿불 협만 빙하 왜가리 상아 벽옥 다시마 연꽃 단풍 꿀 마노 진주 석영 갈대 담비 황옥 흙빛
        제비꽃 버들 산들"""
    ),
}  # fmt: skip


def filler(rng: random.Random, language: str) -> str:
    """One sentence of hay."""
    who, where = rng.choice(_PEOPLE[language]), rng.choice(_PLACES[language])
    thing, day, verb = rng.choice(_THINGS[language]), rng.choice(_DAYS[language]), rng.choice(_VERBS[language])
    if language == "en":
        return f"{who} {verb} the {thing} at the {where} {day}."
    return f"{josa(who, '은/는')} {day} {where}에서 {josa(thing, '을/를')} {verb}."


def haystack(rng: random.Random, language: str, tokens: int, needles: list[tuple[float, str]]) -> str:
    """About so many tokens of hay, with each needle at its depth (0 first, 1 last)."""
    room = tokens * CHARACTERS[language] - sum(len(n) + 1 for _, n in needles)
    hay: list[str] = []
    while room > 0:
        hay.append(filler(rng, language))
        room -= len(hay[-1]) + 1
    places = sorted(((round(depth * len(hay)), needle) for depth, needle in needles), key=lambda p: -p[0])
    for place, needle in places:
        hay.insert(place, needle)
    return " ".join(hay)


_ASK = {
    "en": "Read the text below, then answer the question at its end.\n\n{text}\n\nQuestion: {question}",
    "ko": "아래 글을 읽고 끝에 있는 물음에 답하세요.\n\n{text}\n\n물음: {question}",
}


def _item(name: str, language: str, text: str, question: str, reference: list[str]) -> Item:
    return Item(
        name, {"question": _ASK[language].format(text=text, question=question)}, reference, tags=tuple(name.split("-"))
    )


def _code(rng: random.Random) -> str:
    return str(rng.randrange(100_000, 1_000_000))


def _fact(key: str, value: str, language: str) -> str:
    if language == "en":
        return f"The secret number of {key} is {value}."
    return f"{key}의 비밀 번호는 {value}이다."


def _question(key: str, language: str, many: bool = False) -> str:
    if language == "en":
        return f"What {'are all the secret numbers' if many else 'is the secret number'} of {key}?"
    return f"{key}의 비밀 번호는 무엇입니까?{' 모두 쓰세요.' if many else ''}"


def _needle(rng: random.Random, language: str, tokens: int, depth: float) -> tuple[str, str, list[str]]:
    key, value = rng.choice(_KEYS[language]), _code(rng)
    return haystack(rng, language, tokens, [(depth, _fact(key, value, language))]), _question(key, language), [value]


def _multikey(rng: random.Random, language: str, tokens: int) -> tuple[str, str, list[str]]:
    keys = rng.sample(_KEYS[language], 12)
    facts = {key: _code(rng) for key in keys}
    needles = [(rng.random(), _fact(key, value, language)) for key, value in facts.items()]
    wanted = rng.choice(keys)
    return haystack(rng, language, tokens, needles), _question(wanted, language), [facts[wanted]]


def _multivalue(rng: random.Random, language: str, tokens: int) -> tuple[str, str, list[str]]:
    key, other = rng.sample(_KEYS[language], 2)
    values = [_code(rng) for _ in range(4)]
    needles = [(rng.random(), _fact(key, value, language)) for value in values]
    needles += [(rng.random(), _fact(other, _code(rng), language)) for _ in range(2)]
    return haystack(rng, language, tokens, needles), _question(key, language, many=True), values


def _tracking(rng: random.Random, language: str, tokens: int) -> tuple[str, str, list[str]]:
    chain = rng.sample(_KEYS[language], 10)
    value, other = _code(rng), _code(rng)
    chains = (chain[:5], value), (chain[5:], other)
    needles: list[tuple[float, str]] = []
    for names, first in chains:
        depths = sorted(rng.random() for _ in names)
        for place, name in enumerate(names):
            before = names[place - 1] if place else first
            if language == "en":
                said = f"The value of {name} is {before if not place else 'the value of ' + before}."
            else:
                said = f"{name}의 값은 {before if not place else before + '의 값'}이다."
            needles.append((depths[place], said))
    question = (
        f"Which names have the value {value}? Write them all."
        if language == "en"
        else f"값이 {value}인 이름은 무엇입니까? 모두 쓰세요."
    )
    return haystack(rng, language, tokens, needles), question, chain[:5]


def _words(rng: random.Random, language: str, tokens: int) -> tuple[str, str, list[str]]:
    pool = [*_KEYS[language], *_THINGS[language], *_PLACES[language]]
    common = rng.sample(pool, 3)
    rare = [w for w in pool if w not in common]
    room = tokens * CHARACTERS[language] // (sum(map(len, pool)) // len(pool) + 2)
    words = [w for w in common for _ in range(room // 5)]
    words += [rare[n % len(rare)] for n in range(room - len(words))]
    rng.shuffle(words)
    question = (
        "Which three words stand most often in the list?"
        if language == "en"
        else "목록에 가장 자주 나오는 낱말 세 개는 무엇입니까?"
    )
    return ", ".join(words), question, common


_RULER = {"multikey": _multikey, "multivalue": _multivalue, "tracking": _tracking, "words": _words}


def _rng(*parts: Any) -> random.Random:
    return random.Random(int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big"))


def items(name: str, language: str, options: Mapping[str, Any]) -> list[Item]:
    """The items of a generator: `needle` with tokens and depths, `ruler` with a kind, tokens and how many of each.

    ConfigError for a kind that is not in the table.
    """
    found = []
    if name == "needle":
        for tokens in options["tokens"]:
            for depth in options["depths"]:
                for n in range(options.get("each", 1)):
                    rng = _rng("needle", language, tokens, depth, n, options["seed"])
                    text, question, reference = _needle(rng, language, tokens, depth)
                    label = f"{tokens}-{round(depth * 100)}" + (f"-{n}" if options.get("each", 1) > 1 else "")
                    found.append(_item(label, language, text, question, reference))
        return found
    kind = options.get("kind")
    if kind != "single" and kind not in _RULER:
        raise ConfigError(f"There is no long task {kind!r}. There are: single, {', '.join(_RULER)}.")
    for tokens in options["tokens"]:
        for n in range(options["each"]):
            rng = _rng("ruler", kind, language, tokens, n, options["seed"])
            if kind == "single":
                text, question, reference = _needle(rng, language, tokens, rng.random())
            else:
                text, question, reference = _RULER[kind](rng, language, tokens)
            found.append(_item(f"{kind}-{tokens}-{n}", language, text, question, reference))
    return found
