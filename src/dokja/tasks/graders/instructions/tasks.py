"""IFBench: small tasks with one checkable result each."""

from __future__ import annotations

import csv
import datetime
import re
import unicodedata
from itertools import pairwise

from dokja.tasks.graders.instructions import prose
from dokja.tasks.graders.instructions.ifeval import Check
from dokja.tasks.graders.instructions.prose import listed

_CAPITALS = listed(
    """Reykjavik Helsinki Oslo Tallinn Stockholm Riga Moscow Copenhagen Vilnius Minsk Dublin Berlin Amsterdam
        Warsaw London Brussels Prague Luxembourg Paris Vienna Bratislava Budapest Vaduz Chisinau Bern Ljubljana
        Zagreb"""
)  # north of 45 degrees, from north to south
_AFRICA = 52  # lines from Zimbabwe on that are enough


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def multiples_of_seven(text: str) -> bool:
    """14, 21, ... 49 and no other number."""
    return re.findall(r"\d+", text) == [str(n) for n in range(14, 51, 7)]


def growing_questions(text: str) -> bool:
    """Four questions of five options each, every question longer than the one before, nothing before the first."""
    if not text.startswith("Question"):
        return False
    blocks = [b.strip() for b in re.split(r"\n*Question \d+[.|):;]?\s*", text) if b.strip()]
    lengths = []
    for block in blocks:
        lines = [line.strip() for line in block.split("\n")]
        at = [n for n, line in enumerate(lines) if re.match(r"[A-Ea-e][.|)]\s*\w", line)]
        if len(at) != 5:
            return False
        lengths.append(len(" ".join(lines[: at[0]]).strip()))
    return len(lengths) == 4 and all(a < b for a, b in pairwise(lengths))


def africa_reversed(text: str) -> bool:
    """From Zimbabwe on, lines in reverse alphabetical order, as many as there are countries."""
    lines = [_ascii(stripped) for line in text.split("\n") if (stripped := line.strip(prose.PUNCTUATION + " "))]
    start = next((n for n, line in enumerate(lines) if "Zimbabwe" in line), None)
    if start is None or len(lines) - start < _AFRICA:
        return False
    return lines[start:] == sorted(lines[start:], reverse=True)


def eagle_by_words(text: str) -> bool:
    """A sentence about the bald eagle, its words in reverse."""
    back = " ".join(reversed(prose.bare_words(text.lower().strip())))
    return "bald eagle" in back and len(prose.sentences(back)) == 1


def eagle_by_letters(text: str) -> bool:
    """The bald eagle, its letters in reverse."""
    return "elgae dlab" in text.lower()


def alphabet_sentences(text: str) -> bool:
    """Twenty-six sentences from A to Z."""
    found = prose.sentences(text)
    return [s.lstrip()[0].lower() for s in found] == list("abcdefghijklmnopqrstuvwxyz")


def capitals(text: str) -> bool:
    """The capitals north of 45 degrees, from north to south, separated by commas."""
    return [city.strip() for city in _ascii(text).split(",") if city.strip()] == _CAPITALS


def _table(text: str, delimiter: str, quoting: int = csv.QUOTE_NONE) -> list[list[str]]:
    return list(csv.reader(text.strip("\n").splitlines(), delimiter=delimiter, quoting=quoting))  # type: ignore[arg-type]


def cities(text: str) -> bool:
    """Five named columns and seven rows."""
    rows = _table(text, ",", csv.QUOTE_MINIMAL)
    return len(rows) == 8 and rows[0] == ["ID", "Country", "City", "Year", "Count"] and all(len(r) == 5 for r in rows)


def special_character(text: str) -> bool:
    """Five named columns and fourteen rows, with a quoted field that holds a special character."""
    rows = _table(text, ",", csv.QUOTE_MINIMAL)
    if len(rows) != 15 or any(len(row) != 5 for row in rows[1:]):
        return False
    head = [cell.strip().strip('"') for cell in rows[0]]
    quoted = re.findall(r'"([^"\n]*)"', "\n".join(text.strip().split("\n")[1:]))
    return head == ["ProductID", "Category", "Brand", "Price", "Stock"] and any(
        re.search(r"[^\w\s]", q) for q in quoted
    )


def quoted_fields(text: str) -> bool:
    """Five named columns and three rows, tab delimited, every field in double quotes."""
    rows = [[cell.strip() for cell in row] for row in _table(text, "\t")]
    if len(rows) != 4 or any(len(row) != 5 for row in rows):
        return False
    head = [cell.strip('"') for cell in rows[0]]
    return head == ["StudentID", "Subject", "Grade", "Semester", "Score"] and all(
        len(cell) > 1 and cell[0] == cell[-1] == '"' for row in rows for cell in row
    )


def napoleon(text: str) -> bool:
    """Dates of Napoleon's lifetime as YYYY-MM-DD, separated by commas."""
    for part in text.strip().split(","):
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", part.strip()):
            return False
        try:
            date = datetime.date.fromisoformat(part.strip())
        except ValueError:
            return False
        if not 1769 <= date.year <= 1821:
            return False
    return True


CHECKS: dict[str, Check] = {
    "custom:multiples": multiples_of_seven,
    "custom:mcq_count_length": growing_questions,
    "custom:reverse_newline": africa_reversed,
    "custom:word_reverse": eagle_by_words,
    "custom:character_reverse": eagle_by_letters,
    "custom:sentence_alphabet": alphabet_sentences,
    "custom:european_capitals_sort": capitals,
    "custom:csv_city": cities,
    "custom:csv_special_character": special_character,
    "custom:csv_quotes": quoted_fields,
    "custom:date_format_list": napoleon,
}
