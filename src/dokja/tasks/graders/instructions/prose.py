"""Words, sentences, paragraphs, syllables, scripts and languages, by rule and without data to download.

| the official checkers use | here |
|---|---|
| NLTK punkt | a full stop, question or exclamation mark, then space and no abbreviation before it |
| NLTK word_tokenize | words with inner apostrophes, and single marks |
| NLTK stop words | the same list, typed |
| syllapy | groups of vowels, a silent e, a table of exceptions |
| langdetect | the script, then the commonest small words of languages that share one |
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter


def listed(text: str) -> list[str]:
    """The words of a table."""
    return text.split()


STOP_WORDS = frozenset(
    listed(
        """i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself yourselves he him
        his himself she she's her hers herself it it's its itself they them their theirs themselves what which who
        whom this that that'll these those am is are was were be been being have has had having do does did doing a
        an the and but if or because as until while of at by for with about against between into through during
        before after above below to from up down in out on off over under again further then once here there when
        where why how all any both each few more most other some such no nor not only own same so than too very s t
        can will just don don't should should've now d ll m o re ve y ain aren aren't couldn couldn't didn didn't
        doesn doesn't hadn hadn't hasn hasn't haven haven't isn isn't ma mightn mightn't mustn mustn't needn needn't
        shan shan't shouldn shouldn't wasn wasn't weren weren't won won't wouldn wouldn't"""
    )
)
_ABBREVIATIONS = frozenset(
    listed(
        """mr mrs ms dr prof sr jr st vs etc e.g i.e cf al fig no vol inc ltd co corp dept est gen col sgt capt lt rev
        hon gov sen rep u.s u.k u.n a.m p.m ph.d b.a m.a d.c jan feb mar apr jun jul aug sep sept oct nov dec approx"""
    )
)
_END = re.compile(r"([.!?…。！？]+[\"'”’)\]*_]*)(\s+|$)|([。！？]+[\"'”’」』)]*)")
_WORD = re.compile(r"\w+", re.UNICODE)
_TOKEN = re.compile(
    r"[A-Za-z](?:\.[A-Za-z])+\.?|\w+(?:[-./]\w+)*?(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b|\w+(?:[-./,]\w+)*|[^\w\s]"
)
PUNCTUATION = string.punctuation


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores."""
    return _WORD.findall(text)


def tokens(text: str) -> list[str]:
    """Words, contractions cut (`do n't`, `it 's`), and single marks."""
    return _TOKEN.findall(text.replace("’", "'"))


def bare_words(text: str) -> list[str]:
    """Words at spaces, without ASCII punctuation; those of punctuation alone are left out."""
    return text.translate(str.maketrans("", "", PUNCTUATION)).split()


def sentences(text: str) -> list[str]:
    """Sentences in order; a line break alone does not end one."""
    found, start = [], 0
    for mark in _END.finditer(text):
        end = mark.end(1) if mark.group(1) else mark.end(3)
        before = text[start:end].split()
        after = text[mark.end() :].lstrip()
        last = before[-1].rstrip("\"'”’)]*_").rstrip(".").lower() if before else ""
        if mark.group(1) == "." and after:
            initial = len(last) == 1 and last.isalpha() and last != "i" and before[-1][0].isupper()
            if last in _ABBREVIATIONS or initial:
                continue
            if re.fullmatch(r"\d+", last) and len(before) == 1:
                continue  # the number of a list item
        if mark.group(1) and len(mark.group(1)) > 1 and set(mark.group(1)) <= set(".…") and after[:1].islower():
            continue  # an ellipsis in the middle
        if piece := text[start:end].strip():
            found.append(piece)
        start = end
    if rest := text[start:].strip():
        found.append(rest)
    return found


def paragraphs(text: str, separator: str = "\n\n") -> list[str]:
    """Pieces between separators that hold something."""
    return [piece.strip() for piece in text.split(separator) if piece.strip()]


_VOWEL_GROUPS = re.compile(r"[aeiouy]+")
_SYLLABLES = {
    "the": 1, "every": 2, "evening": 2, "something": 2, "somewhere": 2, "someone": 2, "everything": 3, "area": 3,
    "idea": 3, "being": 2, "create": 2, "created": 3, "science": 2, "quiet": 2, "poem": 2, "poet": 2, "lion": 2,
    "people": 2, "simple": 2, "business": 2, "different": 3, "interesting": 4, "beautiful": 3, "family": 3,
    "natural": 3, "real": 1, "really": 2, "society": 4, "variety": 4, "diet": 2, "riot": 2, "via": 2, "video": 3,
    "audio": 3, "radio": 3, "studio": 3, "period": 3, "experience": 4, "material": 4, "various": 3, "serious": 3,
    "curious": 3, "obvious": 3, "previous": 3, "does": 1, "goes": 1, "one": 1, "once": 1, "none": 1, "done": 1,
    "gone": 1, "come": 1, "some": 1, "were": 1, "where": 1, "there": 1, "here": 1, "are": 1, "have": 1,
}  # fmt: skip


def syllables(word: str) -> int:
    """Syllables of an English word: vowel groups, less a silent e, more for vowels that are spoken apart."""
    word = "".join(c for c in word.lower() if c.isalpha())
    if not word:
        return 0
    if word in _SYLLABLES:
        return _SYLLABLES[word]
    count = len(_VOWEL_GROUPS.findall(word))
    if (word.endswith("e") and not word.endswith(("le", "ee", "ye", "oe", "ie", "ue"))) or (
        word.endswith("le") and len(word) > 2 and word[-3] in "aeiouy"
    ):
        count -= 1
    elif word.endswith("ed") and len(word) > 3 and word[-3] not in "td":
        count -= word[-3] not in "aeiouy"
    elif (
        word.endswith("es")
        and len(word) > 3
        and not word.endswith(("ses", "zes", "ces", "ges", "xes", "ches", "shes", "ies"))
    ):
        count -= word[-3] not in "aeiouyl" or word[-4] in "aeiouy"
    count += len(re.findall(r"i[ao](?!u)|eo|ua(?=[^r])|uo|iu|ying\b", word)) - len(
        re.findall(r"[tscg]i[ao]|people|geo(?=us)|gua|qua|quo", word)
    )
    return max(1, count)


_SCRIPTS = (
    ("HANGUL", "ko"), ("HIRAGANA", "ja"), ("KATAKANA", "ja"), ("CJK", "zh"), ("ARABIC", "ar"), ("DEVANAGARI", "hi"),
    ("BENGALI", "bn"), ("GURMUKHI", "pa"), ("GUJARATI", "gu"), ("TAMIL", "ta"), ("TELUGU", "te"), ("KANNADA", "kn"),
    ("MALAYALAM", "ml"), ("THAI", "th"), ("CYRILLIC", "ru"), ("GREEK", "el"), ("HEBREW", "he"), ("LATIN", "latin"),
)  # fmt: skip
_SMALL_WORDS = {
    "en": "the of and to in is that it for was with as are be this have from not you by",
    "de": "der die und das ist nicht ein eine zu den mit von sie ich auf für im dem auch wir",
    "fr": "le la les et des est un une que dans pour qui sur pas du au avec ce il nous",
    "es": "el la los de que y en un una es por con para las del se no su lo más",
    "it": "il di che la e un una per non con sono del le della è in gli si nel anche",
    "pt": "o a de que e do da em um uma para com não os por mais as dos como é",
    "nl": "de het een en van is dat op te zijn voor met niet die aan er ook als",
    "sv": "och att det som en på är av för med till den har inte om ett jag",
    "fi": "ja on ei että se oli hän mutta kun niin olen ovat joka myös tai sen kuin",
    "vi": "và của là có không một được cho các với người những trong tôi để này đã khi",
    "sw": "na ya wa kwa ni katika la za kuwa hii cha yako kama watu lakini hiyo kwamba",
    "id": "dan yang di untuk dengan ini itu dari tidak pada ke akan adalah saya dalam",
    "tr": "ve bir bu için ile da de çok ne gibi daha ama olarak var ben",
    "pl": "i w nie na się z że do to jest jak ale po co tak od przez",
    "ru": "и в не на что он с как это по но из у за от для то же все",
    "bg": "и на да в от за се не са че със като това по но най при или съм",
    "uk": "і в не на що з як це до та але є від для у за він",
    "hi": "है में के की और को से का नहीं हैं पर यह था एक लिए भी",
    "mr": "आहे आणि मध्ये नाही हे आहेत तर या होते साठी आपण केले एक किंवा त्या च्या",
    "ne": "छ र को मा छन् हुन् गर्न भएको पनि यो हो लागि तथा एक गरेको",
    "ar": "في من على إلى أن هذا التي عن مع ما كان هو لا هذه كل",
    "fa": "و در به از که این را با است برای آن یک خود تا بر می",
    "ur": "کے میں کی ہے اور سے کو کا نے ہیں یہ کہ پر اس بھی",
}
_FAMILIES = {"ru": ("ru", "bg", "uk"), "hi": ("hi", "mr", "ne"), "ar": ("ar", "fa", "ur")}


def script_of(char: str) -> str | None:
    """The language for which a letter's script stands, `latin`, or None for what is no letter."""
    if not char.isalpha() and unicodedata.category(char) not in ("Mc", "Mn"):
        return None
    name = unicodedata.name(char, "")
    return next((language for start, language in _SCRIPTS if name.startswith(start)), None)


def language(text: str) -> str | None:
    """The language most of the text is written in, as an ISO 639-1 code; None where no letter says."""
    scripts = Counter(s for s in map(script_of, text[:4000]) if s)
    if not scripts:
        return None
    if scripts["ja"]:  # Japanese mixes kana with characters that Chinese has as well
        scripts["ja"] += scripts.pop("zh", 0)
    top = scripts.most_common(1)[0][0]
    choices = _FAMILIES.get(top) or (
        tuple(k for k in _SMALL_WORDS if k not in sum(_FAMILIES.values(), ())) if top == "latin" else None
    )
    if choices is None:
        return top
    seen = Counter(w.lower() for w in re.findall(r"[^\W\d_]+(?:[\u0900-\u097f]*)", text))
    votes = {code: sum(seen[w] for w in _SMALL_WORDS[code].split()) for code in choices}
    best = max(votes, key=lambda code: votes[code])
    return best if votes[best] else (top if top != "latin" else "en")
