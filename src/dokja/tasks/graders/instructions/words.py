"""IFBench: rules about every word."""

from __future__ import annotations

import re
from itertools import pairwise

from dokja.tasks.graders.instructions import prose
from dokja.tasks.graders.instructions.ifeval import Check
from dokja.tasks.graders.instructions.prose import listed

_PRIMES = frozenset(n for n in range(2, 100) if all(n % d for d in range(2, n)))
_CONSONANTS = "bcdfghjklmnpqrstvwxyz"
# Openings that are verbs: imperatives and auxiliaries, and forms that endings tell. NLTK's tagger is not at hand.
_VERBS = frozenset(
    listed(
        """be am is are was were do does did have has had can could may might must shall should will would let go get
        make take give see look find use try think consider imagine picture explore discover learn start begin
        create build write read say tell ask answer explain describe discuss analyze compare choose decide keep hold
        put set run walk turn move bring follow help show note remember forget ensure identify determine understand
        know believe feel hear listen speak call come leave stay stand sit wait watch add apply avoid break buy sell
        change check clean close open cut draw eat drink fall fill focus gather grow include increase reduce join
        jump live love meet mix need offer pay play prepare prevent provide pull push reach recall return save send
        share spend step stop study teach throw touch travel understand visit want wear win work welcome embrace
        dive delve prove solve simplify substitute calculate compute evaluate integrate differentiate define
        implement install develop design plan recognize realize reflect unleash experience envision enter meet
        combine divide multiply arrange organize list name sort select establish transform navigate craft generate
        assume suppose given depends yes"""
    )
) - {"yes", "given"}
_VERB_ENDING = re.compile(r"(?:ing|ed|ize|ise|ify)$")


def alphabet(text: str) -> bool:
    """Each word starts with the next letter, and A follows Z."""
    found = [word[0].lower() for word in prose.bare_words(text)]
    letters = "abcdefghijklmnopqrstuvwxyz"
    if not found or found[0] not in letters:
        return False
    return all(a in letters and b == letters[(letters.index(a) + 1) % 26] for a, b in pairwise(found))


def three_vowels(text: str) -> bool:
    """One paragraph, and no more than three of the five vowels in it."""
    text = text.strip()
    return "\n" not in text and len(set(text.lower()) & set("aeiou")) <= 3


def clusters(text: str) -> bool:
    """Two consonants side by side in every word."""
    return all(re.search(f"[{_CONSONANTS}]{{2}}", word) for word in text.lower().split())


def palindromes(text: str) -> bool:
    """At least ten palindromes of five letters or more."""
    return sum(len(w) >= 5 and w == w[::-1] for w in prose.bare_words(text.lower())) >= 10


def prime_lengths(text: str) -> bool:
    """Every word has a prime number of characters."""
    return all(len(word) in _PRIMES for word in prose.bare_words(text))


def starts_with_verb(text: str) -> bool:
    """The first word is a verb, by a list and by its ending: an approximation of a tagger."""
    first = next((t.lower() for t in prose.tokens(text)), "")
    return first in _VERBS or (len(first) > 4 and _VERB_ENDING.search(first) is not None)


def odd_even(text: str) -> bool:
    """Odd and even numbers of syllables take turns."""
    found = [prose.syllables(word) % 2 for word in prose.bare_words(text.lower())]
    return all(a != b for a, b in pairwise(found))


def chained(text: str) -> bool:
    """The last word of a sentence is the first of the next."""
    strip = prose.PUNCTUATION + " "
    cut = [sentence.strip(strip).lower().split() for sentence in prose.sentences(text)]
    return all(a and b and a[-1].rstrip(strip) == b[0].rstrip(strip) for a, b in pairwise(cut))


def paragraph_ends(text: str) -> bool:
    """Every paragraph ends with the word it starts with."""
    cut = [line.strip().strip(prose.PUNCTUATION + " ").lower().split() for line in text.split("\n")]
    return all(words[0] == words[-1] for words in cut if words)


def no_same_firsts(text: str) -> bool:
    """No two words in a row with the same first letter."""
    return all(a[0] != b[0] for a, b in pairwise(prose.bare_words(text.lower())))


def at_position(text: str, keyword: str, n: float, m: float) -> bool:
    """The m-th word of the n-th sentence is the keyword."""
    found = prose.sentences(text)
    if len(found) < n:
        return False
    words = [t for t in prose.tokens(found[int(n) - 1]) if any(c.isalnum() for c in t)]
    return len(words) >= m and words[int(m) - 1].lower() == keyword.lower()


def second_and_second_last(text: str, keyword: str) -> bool:
    """The second word and the last but one are the keyword; a final mark does not count."""
    found = [t.lower() for t in prose.tokens(text)]
    if found and found[-1] in prose.PUNCTUATION:
        found.pop()
    return len(found) >= 2 and found[1] == found[-2] == keyword.strip().lower()


CHECKS: dict[str, Check] = {
    "words:alphabet": alphabet,
    "words:vowel": three_vowels,
    "words:consonants": clusters,
    "words:palindrome": palindromes,
    "words:prime_lengths": prime_lengths,
    "words:start_verb": starts_with_verb,
    "words:odd_even_syllables": odd_even,
    "words:last_first": chained,
    "words:paragraph_last_first": paragraph_ends,
    "words:no_consecutive": no_same_firsts,
    "words:keywords_specific_position": at_position,
    "words:words_position": second_and_second_last,
}
