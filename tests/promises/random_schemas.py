"""Random JSON schemas and regular expressions, Korean and English, whose answers end even where nonsense is written."""

import random
from typing import Any

NAMES = ["이름", "나이", "주소 1", "name", "n", "zip-code", '키"따옴표\\', "값", "a b", "목록", "🙂", "é"]
WORDS = ["가", "서울", "아니요", "yes", "no", "", " ", "a\nb", '따"옴\\표', "漢字", "😀", "null"]


def pattern(rng: random.Random, depth: int = 2) -> str:
    """A regular expression in what Python and Rust read alike; repeats are bounded."""
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(
            [
                "a",
                "b",
                "가",
                "나다",
                "[a-f]",
                "[가-힣]",
                "[^x가]",
                r"\d",
                r"\.",
                "[0-9A-F]",
                "-",
                " ",
                r"[\[\]]",
                ".",
                "(?:ㄱ|ㄴ)",
            ]
        )
    part = pattern(rng, depth - 1)
    kind = rng.randrange(5)
    if kind == 0:
        return part + pattern(rng, depth - 1)
    if kind == 1:
        return f"(?:{part}|{pattern(rng, depth - 1)})"
    low = rng.randrange(3)
    return f"(?:{part})" + rng.choice(["?", f"{{{low}}}", f"{{{low},{low + rng.randrange(3)}}}"])


def _string(rng: random.Random) -> dict[str, Any]:
    kind = rng.randrange(4)
    if kind == 0:
        return {"type": "string", "pattern": f"^{pattern(rng)}$"}
    if kind == 1:
        return {"type": "string", "format": rng.choice(["date", "time", "ipv4", "uuid"])}
    low = rng.randrange(3)
    return {"type": "string", "minLength": low, "maxLength": low + rng.randrange(6)}


def _number(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.3:
        low = round(rng.uniform(-50, 50), 1)
        return {"type": "number", "minimum": low, "maximum": low + rng.choice([0.5, 3, 1000])}
    low = rng.randrange(-200, 200)
    kind = rng.randrange(4)
    if kind == 0:
        return {"type": "integer", "exclusiveMinimum": low, "exclusiveMaximum": low + 2 + rng.randrange(500)}
    if kind == 1:
        return {
            "type": "integer",
            "minimum": 0,
            "maximum": 10 ** rng.randrange(1, 5),
            "multipleOf": rng.randrange(1, 9),
        }
    return {"type": "integer", "minimum": low, "maximum": low + rng.randrange(500)}


def _array(rng: random.Random, depth: int, refs: list[str]) -> dict[str, Any]:
    low = rng.randrange(3)
    out = {"type": "array", "items": _value(rng, depth - 1, refs), "minItems": low, "maxItems": low + rng.randrange(3)}
    if rng.random() < 0.2:
        out |= {"prefixItems": [_value(rng, 0, refs) for _ in range(2)]}
    return out


def _object(rng: random.Random, depth: int, refs: list[str]) -> dict[str, Any]:
    names = rng.sample(NAMES, rng.randrange(1, 4))
    out: dict[str, Any] = {"type": "object", "properties": {name: _value(rng, depth - 1, refs) for name in names}}
    out["required"] = [name for name in names if rng.random() < 0.6]
    if rng.random() < 0.1:
        out["patternProperties"] = {"^x[0-9]$": {"type": "boolean"}}
    out["additionalProperties"] = {"type": "null"} if rng.random() < 0.1 else False
    return out


def _value(rng: random.Random, depth: int, refs: list[str]) -> dict[str, Any]:
    kind = rng.randrange(12)
    if depth > 0 and kind < 3:
        return _object(rng, depth, refs)
    if depth > 0 and kind < 5:
        return _array(rng, depth, refs)
    if depth > 0 and kind == 5:
        return {"anyOf": [_value(rng, depth - 1, refs) for _ in range(rng.randrange(1, 4))]}
    if refs and kind == 6:
        return {"$ref": f"#/$defs/{rng.choice(refs)}"}
    if kind == 7:
        return {"enum": rng.sample([*WORDS, 3, -1.5, True, None, ["가", 1], {"k": "값"}], rng.randrange(1, 5))}
    if kind == 8:
        return {"const": rng.choice([*WORDS, 0, False, [1, [2]], {"가": {"나": None}}])}
    if kind == 9:
        return rng.choice([{"type": "boolean"}, {"type": "null"}, {"type": ["boolean", "null"]}])
    return _number(rng) if kind == 10 else _string(rng)


def schema(seed: int) -> dict[str, Any]:
    """An object two or three levels deep, now and then with definitions, one of which holds itself."""
    rng = random.Random(seed)
    refs = rng.sample(["점", "p", "q"], rng.randrange(3))
    out = _object(rng, rng.randrange(1, 4), refs)
    if refs:
        out["$defs"] = {name: _value(rng, 1, refs[:i]) for i, name in enumerate(refs)}
    if rng.random() < 0.1:
        node = {"type": "object", "properties": {"v": {"enum": [1, 2]}, "다음": {"$ref": "#/$defs/node"}}}
        out.setdefault("$defs", {})["node"] = node | {"required": ["v"], "additionalProperties": False}
        out["properties"]["node"] = {"$ref": "#/$defs/node"}
    return out
