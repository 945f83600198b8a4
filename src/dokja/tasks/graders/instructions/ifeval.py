"""The 25 instructions of IFEval."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from dokja.tasks.graders.instructions import prose

Check = Callable[..., bool]


def compare(count: int, relation: str, bound: float) -> bool:
    """`less than` is strict, `at least` is not."""
    return count < bound if relation == "less than" else count >= bound


def keywords(text: str, keywords: list[str]) -> bool:
    """Every keyword stands somewhere, case aside."""
    return all(word.lower() in text.lower() for word in keywords)


def forbidden(text: str, forbidden_words: list[str]) -> bool:
    """None of the words stands as a word of its own."""
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words)


def frequency(text: str, keyword: str, relation: str, frequency: int) -> bool:
    """How often a keyword stands, inside other words as well."""
    return compare(text.lower().count(keyword.lower()), relation, frequency)


def letters(text: str, letter: str, let_relation: str, let_frequency: int) -> bool:
    """How often one character stands, case aside."""
    return compare(text.lower().count(letter.lower()), let_relation, let_frequency)


def in_language(text: str, language: str) -> bool:
    """Written in this language; a text without letters is let pass, as it is by the official checker."""
    return prose.language(text) in (language, None)


def sentence_count(text: str, relation: str, num_sentences: int) -> bool:
    """The number of sentences."""
    return compare(len(prose.sentences(text)), relation, num_sentences)


def word_count(text: str, relation: str, num_words: int) -> bool:
    """The number of words."""
    return compare(len(prose.words(text)), relation, num_words)


def starred_paragraphs(text: str, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs between `***`; an empty one may stand at either end only."""
    pieces = re.split(r"\s?\*\*\*\s?", text)
    filled = [bool(piece.strip()) for piece in pieces]
    return all(filled[1:-1]) and sum(filled) == num_paragraphs


def first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Exactly so many paragraphs, and the n-th starts with this word."""
    pieces = text.split("\n\n")
    if sum(bool(p.strip()) for p in pieces) != num_paragraphs or nth_paragraph > len(pieces):
        return False
    inside = pieces[nth_paragraph - 1].split()
    if not inside:
        return False
    found = re.match(r"[^.,?!'\"]*", inside[0].lstrip("'\""))
    return found is not None and found.group().lower() == first_word.lower()


def placeholders(text: str, num_placeholders: int) -> bool:
    """At least so many `[placeholders]`."""
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def postscript(text: str, postscript_marker: str) -> bool:
    """A postscript after this marker; the spacing of P.S. and P.P.S is free."""
    forms = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(forms.get(postscript_marker, re.escape(postscript_marker.lower())), text.lower()) is not None


def bullets(text: str, num_bullets: int) -> bool:
    """Exactly so many lines that start with `*` or `-`; `**bold**` is no bullet."""
    return len(re.findall(r"^\s*(?:\*[^*\n]|-)", text, re.MULTILINE)) == num_bullets


def constrained(text: str) -> bool:
    """One of the three allowed sentences."""
    return any(f"My answer is {word}." in text for word in ("yes", "no", "maybe"))


def highlights(text: str, num_highlights: int) -> bool:
    """At least so many `*highlighted*` parts; a part in two stars counts for both of its readings, as officially."""
    single = [h for h in re.findall(r"\*[^\n*]*\*", text) if h.strip("*").strip()]
    double = [h for h in re.findall(r"\*\*[^\n*]*\*\*", text) if h[2:-2].strip()]
    return len(single) + len(double) >= num_highlights


def sections(text: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many sections, each begun by the word and a number."""
    return len(re.findall(rf"{re.escape(section_spliter)}\s?\d+", text)) >= num_sections


def json_only(text: str) -> bool:
    """The whole is JSON, in a code fence or not."""
    bare = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE).strip()
    try:
        json.loads(bare)
    except ValueError:
        return False
    return True


def title(text: str) -> bool:
    """A title in `<<double angular brackets>>`."""
    return any(found.strip("<> \t") for found in re.findall(r"<<[^\n]+>>", text))


def two_responses(text: str) -> bool:
    """Two different answers with six stars between them."""
    pieces = text.split("******")
    filled = [p.strip() for p in pieces if p.strip()]
    inner = all(p.strip() for p in pieces[1:-1])
    return inner and len(filled) == 2 and filled[0] != filled[1]


def repeat_prompt(text: str, prompt_to_repeat: str) -> bool:
    """The request first, word for word."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def ends_with(text: str, end_phrase: str) -> bool:
    """These last words, and nothing after them."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quoted(text: str) -> bool:
    """The whole in double quotes."""
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def upper(text: str) -> bool:
    """English, in capitals only."""
    return text.isupper() and in_language(text.lower(), "en")


def lower(text: str) -> bool:
    """English, without a capital."""
    return text.islower() and in_language(text, "en")


def capital_words(text: str, capital_relation: str, capital_frequency: int) -> bool:
    """The number of words in capitals only."""
    return compare(sum(token.isupper() for token in prose.tokens(text)), capital_relation, capital_frequency)


def no_comma(text: str) -> bool:
    """Not one comma."""
    return "," not in text


CHECKS: dict[str, Check] = {
    "keywords:existence": keywords,
    "keywords:forbidden_words": forbidden,
    "keywords:frequency": frequency,
    "keywords:letter_frequency": letters,
    "language:response_language": in_language,
    "length_constraints:number_sentences": sentence_count,
    "length_constraints:number_words": word_count,
    "length_constraints:number_paragraphs": starred_paragraphs,
    "length_constraints:nth_paragraph_first_word": first_word,
    "detectable_content:number_placeholders": placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": bullets,
    "detectable_format:constrained_response": constrained,
    "detectable_format:number_highlighted_sections": highlights,
    "detectable_format:multiple_sections": sections,
    "detectable_format:json_format": json_only,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": ends_with,
    "startend:quotation": quoted,
    "change_case:english_capital": upper,
    "change_case:english_lowercase": lower,
    "change_case:capital_word_frequency": capital_words,
    "punctuation:no_comma": no_comma,
}


def arguments(raw: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are given; published sets hold every argument of every instruction, most of them null."""
    return {key: value for key, value in raw.items() if value is not None}
