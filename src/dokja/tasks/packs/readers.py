"""Rows to questions and references, by the `reader` of a task.

| kind | the row holds | keys of the reader |
|---|---|---|
| choice | a question, options, the right one | question, options, answer {field, as, values}, labels, shuffle |
| text | a question and an answer | question, answer {field, after} |
| humaneval, mbpp, cases | program tasks in those formats | |
| follow | a prompt with instruction ids and their arguments | |
| safety | a request | question, expect |
| ready | our own format: id, prompt, reference | |

`question` is a text with `{fields}` of the row in it. `answer.as` tells how the right option is written: `letter`,
`place` (from 0), `number` (from 1), `text`, or by `values`, a list in the order of the options. `where` keeps the rows
whose field has one of some values; `range` those whose whole number lies in it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dokja.errors import DataError
from dokja.tasks.graders.choice import LETTERS, label_of, show_options
from dokja.tasks.packs.rows import Row

_FIELD = re.compile(r"\{([\w ]+)\}")


@dataclass(frozen=True)
class Item:
    """A question as read: what the prompt is made of, and what is right."""

    id: str
    fields: Mapping[str, str]
    reference: Any
    language: str | None = None
    tags: tuple[str, ...] = ()
    system: str | None = None
    image: Path | bytes | None = None


def fill(template: str, fields: Mapping[str, Any]) -> str:
    """`template` with its `{fields}`; braces elsewhere, and in values, stay. DataError for a field that is missing."""

    def value(match: re.Match[str]) -> str:
        if match.group(1) not in fields:
            raise DataError(f"The prompt asks for {match.group()}, and the row has {', '.join(fields)}.")
        return str(fields[match.group(1)])

    return _FIELD.sub(value, template)


def keeps(row: Row, reader: Mapping[str, Any]) -> bool:
    """Whether a row belongs to the task."""
    for name, allowed in reader.get("where", {}).items():
        if str(row.get(name)) not in map(str, allowed):
            return False
    for name, (low, high) in reader.get("range", {}).items():
        if not low <= int(row[name]) <= high:
            return False
    for name, (first, last) in reader.get("between", {}).items():
        if not first <= str(row[name])[: len(first)] <= last:
            return False
    return True


def read_item(row: Row, number: int, reader: Mapping[str, Any], folder: Path) -> Item:
    """One row as an item. DataError for a row that lacks what the reader needs."""
    try:
        kind = KINDS[reader["kind"]]
    except KeyError as error:
        raise DataError(f"There is no reader {reader['kind']!r}. There are: {', '.join(KINDS)}.") from error
    name = str(row[reader["id"]]) if reader.get("id") in row else str(number)
    try:
        item = kind(name, row, reader)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise DataError(
            f"Row {number} cannot be read as {reader['kind']} ({type(error).__name__}: {error}). "
            f"It has {', '.join(map(str, row))}: is it the right file?"
        ) from error
    tags = tuple(str(row[t]) for t in reader.get("tags", ()) if row.get(t) not in (None, ""))
    return replace(item, tags=item.tags + tags, image=_image(row.get(reader.get("image", "")), folder))


def _image(found: Any, folder: Path) -> Path | bytes | None:
    """A picture as a path beside the data, or as the bytes that a hub's table holds."""
    if isinstance(found, dict) and found.get("bytes"):
        return bytes(found["bytes"])
    return folder / found if isinstance(found, str) and found else None


def _question(row: Row, reader: Mapping[str, Any]) -> str:
    return fill(reader.get("question", "{question}"), row).strip()


def _options(row: Row, reader: Mapping[str, Any]) -> list[str]:
    named = reader["options"]
    if isinstance(named, list):
        found = (
            [row[name] for name in named if row.get(name) not in (None, "")] if reader.get("fields", True) else named
        )
        return [str(option).strip() for option in found]
    found = row[named]
    if isinstance(found, str):
        found = ast.literal_eval(found)
    if isinstance(found, dict):
        found = found.get("text", list(found.values()))
    return [str(option).strip() for option in found if str(option).strip() != "N/A"]


def _place(row: Row, options: list[str], answer: Mapping[str, Any]) -> int:
    if "fixed" in answer:
        return int(answer["fixed"])
    said = row[answer["field"]]
    how = answer.get("as", "letter")
    if "values" in answer:
        return [str(v).casefold() for v in answer["values"]].index(str(said).strip().casefold())
    if how == "place":
        return int(said)
    if how == "number":
        return int(said) - 1
    if how == "text":
        return options.index(str(said).strip())
    letter = re.search(r"[A-Za-z]", str(said))
    if letter is None:
        raise ValueError(f"{said!r} is no letter")
    return LETTERS.index(letter.group().upper())


def _choice(name: str, row: Row, reader: Mapping[str, Any]) -> Item:
    options = _options(row, reader)
    place = _place(row, options, reader["answer"])
    if not 0 <= place < len(options):
        raise ValueError(f"answer {place} of {len(options)} options")
    if reader.get("shuffle"):
        # by a hash of the question: the same order for everybody, whatever else is asked
        key = [hashlib.sha256(f"{_question(row, reader)}\t{o}".encode()).digest() for o in options]
        order = sorted(range(len(options)), key=lambda n: key[n])
        options, place = [options[n] for n in order], order.index(place)
    labels = reader.get("labels", "letters")
    names = [label_of(n, labels) for n in range(len(options))]
    fields = {
        "question": _question(row, reader),
        "options": show_options(options, labels),
        "first": names[0],
        "last": names[-1],
    }
    return Item(name, fields, {"answer": place, "options": options})


def _text(name: str, row: Row, reader: Mapping[str, Any]) -> Item:
    answer = reader["answer"]
    said = str(row[answer["field"]])
    if after := answer.get("after"):
        said = said.rpartition(after)[2]
    said = said.strip()
    if not said:
        raise ValueError("an empty answer")
    return Item(
        name,
        {"question": _question(row, reader), "options": ""},
        said.replace(",", "") if answer.get("number") else said,
    )


def _either(name: str, row: Row, reader: Mapping[str, Any]) -> Item:
    """A choice where the row has options, else a text: visual sets mix both."""
    options = row.get(reader["options"])
    return _choice(name, row, reader) if options else _text(name, row, reader)


def _humaneval(name: str, row: Row, reader: Mapping[str, Any]) -> Item:
    tests = f"{row['test']}\n\ncheck({row['entry_point']})\n"
    reference = {"tests": tests, "entry": row["entry_point"], "prompt": row["prompt"]}
    return Item(str(row["task_id"]), {"question": row["prompt"].rstrip()}, reference)


def _mbpp(name: str, row: Row, reader: Mapping[str, Any]) -> Item:
    asserts = [*row["test_list"], *row.get("challenge_test_list", ())]
    reference = {"tests": "\n".join([row.get("test_setup_code", ""), *asserts]) + "\n"}
    shown = "\n".join(row["test_list"])
    return Item(str(row["task_id"]), {"question": row["text"].strip(), "tests": shown}, reference)


def _cases(name: str, row: Row, reader: Mapping[str, Any]) -> Item:
    """LiveCodeBench: public and private tests, on standard input or by a call of a method of `Solution`."""
    tests = [*_json(row["public_test_cases"]), *_json(row.get("private_test_cases") or "[]")]
    head = str(row.get("starter_code") or "")
    if all(t.get("testtype", "stdin") == "stdin" for t in tests):
        reference: Any = {"cases": [{"input": t["input"], "output": t["output"]} for t in tests]}
    else:
        method = json.loads(row["metadata"])["func_name"]
        calls = []
        for t in tests:
            given = [json.loads(line) for line in t["input"].split("\n") if line.strip()]
            calls.append(f"assert Solution().{method}(*{given!r}) == {json.loads(t['output'])!r}")
        reference = {"tests": "\n".join(calls) + "\n", "entry": "Solution"}
    return Item(name, {"question": row["question_content"].strip(), "starter": head}, reference)


def _json(text: Any) -> Any:
    """A field of JSON. LiveCodeBench packs long ones as base64 over zlib over a pickled string; pickles are refused."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(
            "private tests are a pickle, which nobody should open: unpack them to JSON with the benchmark's own tool"
        ) from error


def _follow(name: str, row: Row, reader: Mapping[str, Any]) -> Item:
    given = [{k: v for k, v in k.items() if v is not None} for k in row["kwargs"]]
    pairs = [list(pair) for pair in zip(row["instruction_id_list"], given, strict=True)]
    return Item(str(row.get("key", name)), {"question": row["prompt"]}, {"instructions": pairs})


def _safety(name: str, row: Row, reader: Mapping[str, Any]) -> Item:
    question = _question(row, reader)
    return Item(name, {"question": question}, {"expect": reader.get("expect", "refuse"), "question": question})


def _judged(name: str, row: Row, reader: Mapping[str, Any]) -> Item:
    question = _question(row, reader)
    wanted = str(row[reader["answer"]["field"]]) if "answer" in reader else ""
    return Item(name, {"question": question}, {"question": question, "reference": wanted})


def _ready(name: str, row: Row, reader: Mapping[str, Any]) -> Item:
    return Item(
        str(row["id"]), {"question": row["prompt"]}, row["reference"], row.get("language"),
        tuple(row.get("tags", ())), row.get("system"),
    )  # fmt: skip


KINDS: dict[str, Callable[[str, Row, Mapping[str, Any]], Item]] = {
    "choice": _choice,
    "text": _text,
    "either": _either,
    "humaneval": _humaneval,
    "mbpp": _mbpp,
    "cases": _cases,
    "follow": _follow,
    "safety": _safety,
    "judged": _judged,
    "ready": _ready,
}
