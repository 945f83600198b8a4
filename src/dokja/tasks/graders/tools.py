"""Calls of tools: the calls an answer makes, against those it should make.

Read are `<tool_call>{...}</tool_call>`, a fenced block of JSON, or an answer that is JSON: one object or a list, each
`{"name": ..., "arguments": {...}}`.

Compared as in BFCL's check of the syntax tree (Patil et al., Berkeley Function Calling Leaderboard): the name, every
argument required and no other, every value one of those allowed; several calls in any order unless the reference says
`"ordered": true`. An answer without a call is right exactly where none is asked for.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from dokja.tasks.graders.base import verdict
from dokja.tasks.graders.text import plain
from dokja.tasks.problem import Grade

_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_FENCED = re.compile(r"```(?:json|tool_call|tool)?\s*\n(.*?)```", re.DOTALL)


def read_calls(answer: str) -> list[dict[str, Any]] | None:
    """The calls in their order; an empty list for an answer in words, None for one that tries and fails."""
    tagged = _TAGGED.findall(answer)
    pieces = tagged or [piece for piece in _FENCED.findall(answer) if '"name"' in piece]
    if not pieces and answer.strip()[:1] in "[{" and '"name"' in answer:
        pieces = [answer.strip()]
    calls: list[dict[str, Any]] = []
    for piece in pieces:
        try:
            found = json.loads(piece)
        except ValueError:
            lines = [line for line in piece.splitlines() if line.strip()]
            try:
                found = [json.loads(line) for line in lines]
            except ValueError:
                return None
        for call in found if isinstance(found, list) else [found]:
            if not isinstance(call, dict) or not isinstance(call.get("name"), str):
                return None
            given = call.get("arguments", call.get("parameters", {}))
            if isinstance(given, str):
                try:
                    given = json.loads(given)
                except ValueError:
                    return None
            if not isinstance(given, dict):
                return None
            calls.append({"name": call["name"], "arguments": given})
    return calls


def same_value(given: Any, wanted: Any) -> bool:
    """Equal; strings but for case and spaces, numbers by value, a true from no number."""
    if isinstance(given, bool) or isinstance(wanted, bool):
        return given is wanted
    if isinstance(given, int | float) and isinstance(wanted, int | float):
        return given == wanted
    if isinstance(given, str) and isinstance(wanted, str):
        return plain(given) == plain(wanted)
    if isinstance(given, list) and isinstance(wanted, list):
        return len(given) == len(wanted) and all(map(same_value, given, wanted))
    if isinstance(given, dict) and isinstance(wanted, dict):
        return given.keys() == wanted.keys() and all(same_value(given[k], wanted[k]) for k in wanted)
    return given is None and wanted is None


def same_call(given: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a call is the wanted one. `wanted["arguments"]` maps a name to the list of its allowed values; an
    argument whose list holds "" may be left out."""
    if given["name"] != wanted["name"] or not given["arguments"].keys() <= wanted["arguments"].keys():
        return False
    for name, allowed in wanted["arguments"].items():
        if name not in given["arguments"]:
            if "" not in allowed:
                return False
        elif not any(same_value(given["arguments"][name], value) for value in allowed):
            return False
    return True


@dataclass(frozen=True)
class Tools:
    """Reference: `{"calls": [{"name": ..., "arguments": {name: [allowed values]}}], "ordered": false}`."""

    def compare(self, reference: Any, answer: str) -> Grade | None:
        """Right where exactly the wanted calls are made."""
        made = read_calls(answer)
        wanted = list(reference["calls"])
        if made is None or not answer.strip():
            return None
        shown = json.dumps(made, ensure_ascii=False)[:200]
        if reference.get("ordered"):
            return verdict(len(made) == len(wanted) and all(map(same_call, made, wanted)), f"made {shown}")
        rest = list(made)
        for want in wanted:
            match = next((call for call in rest if same_call(call, want)), None)
            if match is None:
                return verdict(False, f"made {shown}, lacks {want['name']}")
            rest.remove(match)
        return verdict(not rest, f"made {shown}")
