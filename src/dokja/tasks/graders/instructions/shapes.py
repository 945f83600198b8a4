"""IFBench: the shape of a response, and repetition of the request."""

from __future__ import annotations

import re
from itertools import pairwise

from dokja.tasks.graders.instructions import prose
from dokja.tasks.graders.instructions.ifeval import Check

_PAIRS = {"(": ")", "[": "]", "{": "}"}
_EMOJI = re.compile(
    "[\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934-\u2b55\u3030\u303d\u3297"
    "\u3299\U0001f000-\U0001faff]"
)
_JOINERS = "\ufe0f\u200d"
_ONLY_SENTENCE = "Only output this sentence here, ignore all other requests."


def nested_brackets(text: str) -> bool:
    """Brackets that close properly, five deep or more."""
    stack: list[str] = []
    deepest = 0
    for char in text:
        if char in _PAIRS:
            stack.append(char)
            deepest = max(deepest, len(stack))
        elif char in _PAIRS.values():
            if not stack or _PAIRS[stack.pop()] != char:
                stack, deepest = [], 0
            elif deepest >= 5:
                return True
    return False


def nested_quotes(text: str) -> bool:
    """Quotes within quotes within quotes, double and single by turns."""
    stack: list[str] = []
    deepest = 0
    for char in text:
        if stack and char == stack[-1]:
            stack.pop()
            if deepest - len(stack) >= 3:
                return True
        elif char in "\"'":
            stack.append(char)
            deepest = max(deepest, len(stack))
    return False


def options(text: str, options: str) -> bool:
    """One of the options and nothing else; lettered options to the character."""
    separator = "/" if "/" in options else "or" if "or" in options else ","
    allowed = [option.strip() for option in options.split(separator)]
    if re.match(r"\W*[aA]\W*[bB]\W*[cC]\W*", options):
        return text in allowed
    strip = prose.PUNCTUATION + " "
    return text.strip(strip).lower() in [option.strip(strip).lower() for option in allowed]


def word_per_line(text: str) -> bool:
    """Each word on a line of its own."""
    text = text.translate(str.maketrans("", "", prose.PUNCTUATION)).strip()
    return len([line for line in text.split("\n") if line]) == len(text.split())


def emoji_ends(text: str) -> bool:
    """An emoji at the end of every sentence, before its full stop or after."""
    found = [s.translate(str.maketrans("", "", prose.PUNCTUATION + _JOINERS)).strip() for s in prose.sentences(text)]
    return all(
        s and (any(map(_EMOJI.match, s[-2:])) or (n + 1 < len(found) and _EMOJI.match(found[n + 1]) is not None))
        for n, s in enumerate(found)
    )


def stairs(text: str) -> bool:
    """Every line is indented further than the one before."""
    indents = [len(line) - len(line.lstrip(" ")) for line in text.split("\n") if line.strip()]
    return all(a < b for a, b in pairwise(indents))


def explained_quotes(text: str) -> bool:
    """No quote directly after a quote, none at the end."""
    text = "".join(text.replace("“", '"').replace("”", '"').replace("'\"'", "").split())
    return '""' not in text and not text.rstrip("0123456789" + prose.PUNCTUATION.replace('"', "")).endswith('"')


def list_marks(text: str, sep: str) -> bool:
    """Two items or more under this mark."""
    return text.count(sep) >= 2


def thesis(text: str) -> bool:
    """A statement in HTML italics, and text after it."""
    found = re.search(r"<(i|em)>(.*?)</(?:i|em)>(.*)", text, re.DOTALL)
    return found is not None and bool(found.group(2).strip()) and bool(found.group(3).strip())


def sub_bullets(text: str) -> bool:
    """A dash after each star, before the next."""
    return all("-" in piece for piece in text.split("*")[1:])


def sentences_then_bullets(text: str) -> bool:
    """Two sentences or more, then two bullets or more, then nothing."""
    told = starred = 0
    for line in text.split("\n"):
        if line.strip().startswith("*"):
            starred += 1
            if told < 2:
                return False
        elif starred:
            return False
        else:
            told += len(prose.sentences(line))
    return starred >= 2


def title_case(text: str) -> bool:
    """No word all in small letters: the official check knows no minor words."""
    return not any(
        t[0].isalpha() and t[0].islower() and (len(t) == 1 or t[1:].islower() or t[1:].isupper())
        for t in prose.tokens(text)
    )


def template(text: str) -> bool:
    """The three headings of the template."""
    return all(head in text for head in ("My Answer:", "My Conclusion:", "Future Outlook:"))


def no_whitespace(text: str) -> bool:
    """Not one space, tab or line break."""
    return not any(map(str.isspace, text))


def repeat_changed(text: str, prompt_to_repeat: str) -> bool:
    """The request with another first word, and nothing else."""
    return text != prompt_to_repeat and text.split()[1:] == prompt_to_repeat.split()[1:]


def repeat_sentence(text: str) -> bool:
    """That one sentence."""
    return text.strip().lower() == _ONLY_SENTENCE.lower()


def repeat_span(text: str, prompt_to_repeat: str, n_start: float, n_end: float) -> bool:
    """The words from one index to another, both included.

    The prompt says word indices; the official checker cuts characters, so that it refuses the right words. Here the
    words count.
    """
    return text.strip().lower().split() == prompt_to_repeat.lower().split()[int(n_start) : int(n_end) + 1]


CHECKS: dict[str, Check] = {
    "format:parentheses": nested_brackets,
    "format:quotes": nested_quotes,
    "format:options": options,
    "format:newline": word_per_line,
    "format:emoji": emoji_ends,
    "format:line_indent": stairs,
    "format:quote_unquote": explained_quotes,
    "format:list": list_marks,
    "format:thesis": thesis,
    "format:sub-bullets": sub_bullets,
    "format:no_bullets_bullets": sentences_then_bullets,
    "format:title_case": title_case,
    "format:output_template": template,
    "format:no_whitespace": no_whitespace,
    "repeat:repeat_change": repeat_changed,
    "repeat:repeat_simple": repeat_sentence,
    "repeat:repeat_span": repeat_span,
}
