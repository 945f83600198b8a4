"""IFBench: counts, ratios, repetition and sentences."""

from __future__ import annotations

import re
from itertools import pairwise

from dokja.tasks.graders.instructions import prose
from dokja.tasks.graders.instructions.ifeval import Check
from dokja.tasks.graders.instructions.prose import listed

_CONJUNCTIONS = frozenset(["and", "but", "for", "nor", "or", "so", "yet"])
_PRONOUNS = frozenset(
    listed(
        """i me we us you he him she her it they them my mine our ours your yours his hers its their theirs myself
        ourselves yourself yourselves himself herself itself themselves this that these those who whom whose which
        what whoever whomever whatever whichever anybody anyone anything everybody everyone everything nobody
        nothing somebody someone something each either neither both all some any none"""
    )
)
_NAMES = listed(
    """Emma Liam Sophia Jackson Olivia Noah Ava Lucas Isabella Mason Mia Ethan Charlotte Alexander Amelia Benjamin
        Harper Leo Zoe Daniel Chloe Samuel Lily Matthew Grace Owen Abigail Gabriel Ella Jacob Scarlett Nathan
        Victoria Elijah Layla Nicholas Audrey David Hannah Christopher Penelope Thomas Nora Andrew Aria Joseph
        Claire Ryan Stella Jonathan"""
)  # those that the instruction's own prompts list
_JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


def _clean(word: str) -> str:
    return word.strip(prose.PUNCTUATION + " ")


def word_range(text: str, min_words: float, max_words: float) -> bool:
    """A number of words within bounds, both included."""
    return min_words <= len(prose.words(text)) <= max_words


def unique_words(text: str, N: float) -> bool:
    """At least N different words."""
    return len({_clean(word) for word in text.lower().split()}) >= N


def stop_words(text: str, percentage: float) -> bool:
    """No more than a percentage of the words are stop words."""
    found = prose.words(text)
    return bool(found) and 100 * sum(w.lower() in prose.STOP_WORDS for w in found) / len(found) <= percentage


def _endings(text: str) -> tuple[int, int, int]:
    """Sentences that end in a full stop, a question mark, an exclamation mark."""
    ends = [sentence[-1] for sentence in prose.sentences(text)]
    return ends.count("."), ends.count("?"), ends.count("!")


def two_to_one(text: str) -> bool:
    """Two statements for every question."""
    told, asked, _ = _endings(text)
    return told == 2 * asked


def balanced(text: str) -> bool:
    """As many statements as questions as exclamations."""
    return len(set(_endings(text))) == 1


def conjunctions(text: str, small_n: float) -> bool:
    """At least so many different coordinating conjunctions."""
    return len({_clean(word).lower() for word in text.split()} & _CONJUNCTIONS) >= small_n


def person_names(text: str, N: float) -> bool:
    """At least N of the listed first names."""
    return sum(re.search(rf"\b{name}\b", text) is not None for name in _NAMES) >= N


def overlap(text: str, reference_text: str, percentage: float) -> bool:
    """The share of the response's character trigrams that the reference has too, within two points."""
    mine, theirs = ({t[i : i + 3] for i in range(len(t) - 2)} for t in (text, reference_text))
    return bool(mine) and abs(100 * len(mine & theirs) / len(mine) - percentage) <= 2


def numbers(text: str, N: float) -> bool:
    """Exactly N numbers; `1,000.5` is one."""
    return len(re.findall(r"\d+", text.translate(str.maketrans("", "", prose.PUNCTUATION)))) == N


def punctuation(text: str) -> bool:
    """Every mark of . , ! ? ; : and an interrobang besides."""
    found = re.search(r"\?!|!\?|‽", text)
    if found is None:
        return False
    rest = text[: found.start()] + text[found.end() :]
    return all(mark in rest for mark in ".,!?;:")


def pronouns(text: str, N: float) -> bool:
    """At least N pronouns."""
    return sum(token in _PRONOUNS for token in prose.tokens(text.lower().replace("/", " "))) >= N


def five_keywords(text: str, **keyword: str) -> bool:
    """Five keywords, standing 1, 2, 3, 5 and 7 times."""
    lower = text.lower()
    return all(lower.count(keyword[f"keyword{n}"].lower()) == times for n, times in enumerate((1, 2, 3, 5, 7), 1))


def nth_word_japanese(text: str, N: float) -> bool:
    """Every N-th word holds Japanese characters; numbers may stand as they are."""
    every = [_clean(word) for word in text.split()][int(N) - 1 :: int(N)]
    return all(_JAPANESE.search(word) for word in every if word and not word.isdigit())


def repeats(text: str, small_n: float) -> bool:
    """No word more than so many times."""
    found = prose.bare_words(text.lower())
    return all(found.count(word) <= small_n for word in set(found))


def alliteration(text: str) -> bool:
    """Every sentence has more words in alliterating runs than the one before."""
    last = -1
    for sentence in prose.sentences(text):
        firsts = [w[0] for w in (word.lstrip(prose.PUNCTUATION) for word in sentence.lower().split()) if w]
        same = [a == b for a, b in pairwise(firsts)]
        inside = sum((n > 0 and same[n - 1]) or (n < len(same) and same[n]) for n in range(len(firsts)))
        if inside <= last:
            return False
        last = inside
    return True


def increment(text: str, small_n: float) -> bool:
    """Every sentence has exactly so many words more than the one before."""
    lengths = [len(prose.bare_words(sentence)) for sentence in prose.sentences(text)]
    return bool(lengths) and all(b == a + small_n for a, b in pairwise(lengths))


def keyword_in_sentence(text: str, word: str, N: float) -> bool:
    """The N-th sentence holds the word."""
    found = prose.sentences(text)
    return len(found) >= N and re.search(rf"\b{re.escape(word)}\b", found[int(N) - 1], re.IGNORECASE) is not None


def three_equal_sentences(text: str) -> bool:
    """Three sentences of the same number of characters.

    The instruction asks for different words as well, which the official check leaves alone; so does this one.
    """
    found = [sentence.strip() for sentence in prose.sentences(text)]
    return len(found) == 3 and len({len(sentence) for sentence in found}) == 1


CHECKS: dict[str, Check] = {
    "count:word_count_range": word_range,
    "count:unique_word_count": unique_words,
    "count:conjunctions": conjunctions,
    "count:person_names": person_names,
    "count:numbers": numbers,
    "count:punctuation": punctuation,
    "count:pronouns": pronouns,
    "count:keywords_multiple": five_keywords,
    "count:words_japanese": nth_word_japanese,
    "ratio:stop_words": stop_words,
    "ratio:sentence_type": two_to_one,
    "ratio:sentence_balance": balanced,
    "ratio:sentence_words": three_equal_sentences,
    "ratio:overlap": overlap,
    "words:repeats": repeats,
    "sentence:alliteration_increment": alliteration,
    "sentence:increment": increment,
    "sentence:keyword": keyword_in_sentence,
}
