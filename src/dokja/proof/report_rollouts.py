"""A few answers as RL saw them: thought, answer, what the grader said, and what the reward was made of."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from dokja.proof.report_html import both, text
from dokja.proof.report_read import Run
from dokja.proof.report_sample import named, sample_card, verdict
from dokja.proof.strings import known, reason_name, say
from dokja.text.chat import MODES

LANGUAGES = ("ko", "en")


def rollouts(run: Run) -> str:
    """One stored answer of the last step for each mode, language and verdict, Korean beside English."""
    chosen = [
        found
        for mode in MODES
        for good in (True, False)
        for language in LANGUAGES
        if (found := _first(run.rollouts, mode, language, good))
    ]
    if not chosen:
        return ""
    lede = say("rollouts_lede", step=str(chosen[0].get("step", "?")), n=f"{len(run.rollouts):,}")
    cards = "".join(map(_card, chosen))
    return f'<h3>{both(say("rollouts"))}</h3><p class="soft">{both(lede)}</p><div class="samples">{cards}</div>'


def _first(rows: list[dict[str, Any]], mode: str, language: str, good: bool) -> dict[str, Any] | None:
    """The first of that kind by the hash of its place, which nobody chose."""
    mine = [
        r for r in rows if (r.get("mode"), r.get("language"), _number(r.get("score")) >= 1) == (mode, language, good)
    ]
    return min(mine, key=_hash, default=None)


def _hash(row: dict[str, Any]) -> bytes:
    return hashlib.sha256("\t".join(str(row.get(k)) for k in ("step", "group", "sample")).encode()).digest()


def _card(row: dict[str, Any]) -> str:
    good, mode = _number(row.get("score")) >= 1, str(row["mode"])
    tags = [
        verdict(good, reason_name(str(row.get("reason", "")))),
        (mode[0], both(say(mode))),
        ("", text(str(row.get("task", "")).replace("_", " "))),
        ("", both(say("level", n=str(row.get("level", "?"))))),
    ]
    tags += [("bad", both(known("fault", key))) for key in ("forced", "wrong_mode") if row.get(key) is True]
    below = []
    detail, reference = str(row.get("detail") or ""), str(row.get("reference") or "")
    if detail and reference not in detail:  # "expected 4" is said already
        below.append(named(say("graded"), text(detail)))
    below.append(named(say("reward"), _reward(row)))
    return sample_card(
        tags,
        str(row["language"]),
        str(row.get("prompt") or ""),
        str(row.get("reasoning") or ""),
        str(row.get("answer") or ""),
        None if good else reference,
        below,
    )


def _reward(row: dict[str, Any]) -> str:
    """`0.93 = right +1.00 · brief −0.07`; parts that gave and took nothing are left out."""
    parts = row.get("parts")
    shown = [
        f"{both(known('part', str(name)))} {_signed(value)}"
        for name, value in (parts.items() if isinstance(parts, dict) else ())
        if _number(value)
    ]
    total = f"{_number(row.get('reward')):.2f}".replace("-", "−")
    return f"<b>{total}</b>{' = ' if shown else ''}{' · '.join(shown)}"


def _signed(value: Any) -> str:
    return f"{_number(value):+.2f}".replace("-", "−")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
