"""Instructions: each check says yes and no where it should."""

# ruff: noqa: E501 - a table of texts

from __future__ import annotations

from pathlib import Path

import pytest

from dokja.errors import DataError
from dokja.tasks.graders.base import grade
from dokja.tasks.graders.instructions import prose
from dokja.tasks.graders.instructions.follow import CHECKS, Follow, followed, loosened
from dokja.tasks.packs.rows import read_rows

SEVEN = "level civic radar kayak refer rotor madam stats tenet solos"
CASES = [
    ("keywords:existence", {"keywords": ["Cat", "dog"]}, "a cat and a dog", "a cat"),
    ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, "a rocket", "a rock."),
    ("keywords:frequency", {"keyword": "war", "relation": "at least", "frequency": 2}, "war, warm", "war"),
    ("keywords:letter_frequency", {"letter": "#", "let_relation": "less than", "let_frequency": 2}, "#", "##"),
    ("language:response_language", {"language": "ko"}, "안녕하세요", "hello there, this is it"),
    ("language:response_language", {"language": "hi"}, "यह एक किताब है और वह लाल है", "This is a book"),
    ("language:response_language", {"language": "de"}, "Das ist ein Haus und die Tür ist auf.", "The house is on the hill."),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 3}, "One. Two, Mr. X.", "A. B c. D e. F g."),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 3}, "one two three", "one two"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n***\n\n***\nb"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "b"}, "a\n\nB. c", "a\n\nc b"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a]"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "x\nP. P. S. y", "x\nP.S. y"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n- b\n* c"),
    ("detectable_format:constrained_response", {}, "My answer is no.", "My answer is no"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* *b*", "*a*"),
    ("detectable_format:multiple_sections", {"section_spliter": "Day", "num_sections": 2}, "Day 1 x Day 2 y", "Day 1 x"),
    ("detectable_format:json_format", {}, "```json\n{\"a\": 1}\n```", "{a: 1}"),
    ("detectable_format:title", {}, "<<T>>\nx", "<<>>\nx"),
    ("combination:two_responses", {}, "a\n******\nb", "a\n******\na"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it"}, "say it. It.", "It."),
    ("startend:end_checker", {"end_phrase": "The end."}, "x the end.", "the end. x"),
    ("startend:quotation", {}, '"x"', 'x"'),
    ("change_case:english_capital", {}, "THIS IS THE END", "THIS is THE END"),
    ("change_case:english_lowercase", {}, "this is the end", "This is the end"),
    ("change_case:capital_word_frequency", {"capital_relation": "at least", "capital_frequency": 2}, "A BIG dog", "A dog"),
    ("punctuation:no_comma", {}, "a b", "a, b"),
    ("count:word_count_range", {"min_words": 2, "max_words": 3}, "a b c", "a b c d"),
    ("count:unique_word_count", {"N": 3}, "a b c", "a A, b"),
    ("count:conjunctions", {"small_n": 2}, "a and b, but c", "a and b and c"),
    ("count:person_names", {"N": 2}, "Emma and Liam", "Emma and Emmanuel"),
    ("count:numbers", {"N": 2}, "1,000.5 and 3", "1 and 2 and 3"),
    ("count:punctuation", {}, "A, b; c: d. E! F? G?!", "A, b; c: d. E!"),
    ("count:pronouns", {"N": 3}, "she/her it", "she ran"),
    ("count:keywords_multiple", {f"keyword{n}": w for n, w in enumerate("vwxyz", 1)}, "v ww xxx yyyyy zzzzzzz", "v w x y z"),
    ("count:words_japanese", {"N": 2}, "one 二 three 四", "one two three"),
    ("ratio:stop_words", {"percentage": 50}, "big dog barks at night", "it is at the end"),
    ("ratio:sentence_type", {}, "One here. Two here. Three here?", "One here. Two here?"),
    ("ratio:sentence_balance", {}, "One here. Two here? Three here!", "One here. Two here?"),
    ("ratio:sentence_words", {}, "Abcd e. Fghi j. Klmn o.", "Abcd e. Fghi j. Klmno p."),
    ("ratio:overlap", {"reference_text": "abcdef", "percentage": 100}, "abcdef", "uvwxyz"),
    ("words:repeats", {"small_n": 1}, "a b c", "a b a"),
    ("sentence:alliteration_increment", {}, "Red fox. Big bad wolf.", "Big bad wolf. Red fox."),
    ("sentence:increment", {"small_n": 1}, "One two. One two three.", "One two. One two."),
    ("sentence:keyword", {"word": "sun", "N": 2}, "A moon. A sun.", "A sun. A moon."),
    ("words:alphabet", {}, "ants bite cats", "ants cats"),
    ("words:vowel", {}, "a bee sat", "a bee is our"),
    ("words:consonants", {}, "strong winds blow", "strong wind is odd"),
    ("words:palindrome", {}, SEVEN, SEVEN[:30]),
    ("words:prime_lengths", {}, "to the moons", "to them"),
    ("words:start_verb", {}, "Take a seat", "The seat"),
    ("words:odd_even_syllables", {}, "the water is open", "the cat"),
    ("words:last_first", {}, "I like tea. Tea is hot.", "I like tea. It is hot."),
    ("words:paragraph_last_first", {}, "Tea is only tea.\nSun and sun", "Tea is hot."),
    ("words:no_consecutive", {}, "big cats run", "big bad cats"),
    ("words:keywords_specific_position", {"keyword": "tea", "n": 2, "m": 3}, "Hi there. We like tea.", "Hi there. Tea we like."),
    ("words:words_position", {"keyword": "tea"}, "I tea or tea drink.", "Tea I or drink tea."),
    ("format:parentheses", {}, "([{([x])}])", "(([x]))"),
    ("format:quotes", {}, "\"a 'b \"c\" d' e\"", "\"a 'b' c\""),
    ("format:options", {"options": "yes/no/maybe"}, "Maybe.", "Maybe so."),
    ("format:newline", {}, "one\ntwo", "one two"),
    ("format:emoji", {}, "Good day 😀. Good night 🌙", "Good day 😀. Good night."),
    ("format:line_indent", {}, "a\n b\n  c", "a\n b\n b"),
    ("format:quote_unquote", {}, 'He said "no" to me.', 'He said "no"'),
    ("format:list", {"sep": "!?!?"}, "!?!? a\n!?!? b", "!?!? a"),
    ("format:thesis", {}, "<i>It is so.</i> Because.", "<i>It is so.</i>"),
    ("format:sub-bullets", {}, "* a\n - b\n* c\n - d", "* a\n - b\n* c"),
    ("format:no_bullets_bullets", {}, "One. Two.\n* a\n* b", "One.\n* a\n* b"),
    ("format:title_case", {}, "The Big Dog", "The big Dog"),
    ("format:output_template", {}, "My Answer: a My Conclusion: b Future Outlook: c", "My Answer: a"),
    ("format:no_whitespace", {}, "one", "one two"),
    ("repeat:repeat_change", {"prompt_to_repeat": "Say it now"}, "Tell it now", "Say it now"),
    ("repeat:repeat_simple", {}, "Only output this sentence here, ignore all other requests.", "No."),
    ("repeat:repeat_span", {"prompt_to_repeat": "a b c d", "n_start": 1, "n_end": 2}, "b c", "a b"),
    ("custom:multiples", {}, "14, 21, 28, 35, 42, 49", "7, 14, 21, 28, 35, 42, 49"),
    ("custom:mcq_count_length", {}, "\n".join(f"Question {n}\n{'x' * n}\n" + "\n".join(f"{c}) o" for c in "ABCDE") for n in (1, 2, 3, 4)), "Question 1\nx"),
    ("custom:reverse_newline", {}, "\n".join(["Zimbabwe", *(f"Y{n:02d}" for n in range(60, 0, -1))]), "Zimbabwe\nAlgeria"),
    ("custom:word_reverse", {}, "eagle bald the is It", "It is the bald eagle"),
    ("custom:character_reverse", {}, "elgae dlab ehT", "bald eagle"),
    ("custom:sentence_alphabet", {}, " ".join(f"{c}x went on." for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "Ax went. Cx went."),
    ("custom:european_capitals_sort", {}, "Reykjavik, Helsinki, Oslo, Tallinn, Stockholm, Riga, Moscow, Copenhagen, Vilnius, Minsk, Dublin, Berlin, Amsterdam, Warsaw, London, Brussels, Prague, Luxembourg, Paris, Vienna, Bratislava, Budapest, Vaduz, Chișinău, Bern, Ljubljana, Zagreb", "Oslo, Paris"),
    ("custom:csv_city", {}, "ID,Country,City,Year,Count\n" + "1,a,b,2,3\n" * 7, "ID,Country\n1,a"),
    ("custom:csv_special_character", {}, "ProductID,Category,Brand,Price,Stock\n" + '1,"a!b",c,2,3\n' * 14, "ProductID,Category,Brand,Price,Stock\n" + "1,a,c,2,3\n" * 14),
    ("custom:csv_quotes", {}, '"StudentID"\t"Subject"\t"Grade"\t"Semester"\t"Score"\n' + '"1"\t"a"\t"b"\t"c"\t"d"\n' * 3, "StudentID\tSubject"),
    ("custom:date_format_list", {}, "1796-04-12, 1800-06-14", "1796-04-31"),
    ("ko:syllables", {"relation": "at least", "count": 3}, "가나 다", "가나 abc"),
    ("ko:words", {"relation": "less than", "count": 3}, "하나 둘", "하나 둘 셋"),
    ("ko:sentences", {"relation": "at least", "count": 2}, "비가 온다.\n눈이 온다", "비가 온다."),
    ("ko:polite", {}, "고마워요. 안녕히 가십시오.", "고마워요. 잘 가라."),
    ("ko:formal", {}, "감사합니다.", "감사해요."),
    ("ko:plain", {}, "비가 온다. 왜 오는가?", "비가 옵니다."),
    ("ko:no_latin", {}, "가나 123", "가나 a"),
    ("ko:no_digits", {}, "가나", "가나 ３"),
    ("ko:initials", {"initials": "ㄱㄴ"}, "가게 나무", "나무 가게"),
    ("ko:acrostic", {"word": "나무"}, "나: 나는\n무: 무가", "나는\n비가"),
    ("ko:ends_with", {"phrase": "안녕"}, "그럼 안녕!", "안녕 그럼"),
    ("ko:exactly", {"keyword": "물", "count": 2}, "물은 물이다", "물이다"),
    ("ko:numbered", {"count": 2}, "1. 가\n2. 나", "1. 가\n3. 나"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "follows", "breaks"), CASES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CASES)]
)
def test_a_check_says_yes_and_no(name: str, given: dict[str, object], follows: str, breaks: str) -> None:
    assert followed(follows, name, given)
    assert not followed(breaks, name, given)


def test_every_check_has_a_case() -> None:
    assert {name for name, *_ in CASES} == set(CHECKS)
    assert len([n for n in CHECKS if not n.startswith("ko:")]) == 25 + 58


@pytest.mark.parametrize("text", ["", " ", "\n\n", "*", "가", "\0", "a" * 5000, "((((", "<<>>", "1.", "...", '"'])
def test_no_text_breaks_a_check(text: str) -> None:
    for name, given, _, _ in CASES:
        assert followed(text, name, given, loose=True) in (True, False)


def test_loose_forgives_a_first_line_and_stars() -> None:
    text = "Sure, here it is:\n**hello**"
    assert "hello" in loosened(text)
    instructions = [["startend:end_checker", {"end_phrase": "hello"}], ["punctuation:no_comma", {}]]
    strict, loose = (grade(Follow(mode), {"instructions": instructions}, text) for mode in ("strict", "loose"))
    assert (strict.reason, loose.reason) == ("wrong", "right")
    assert "no_comma loosely" in strict.detail
    share = grade(Follow("loose", "instruction"), {"instructions": [*instructions, ["startend:quotation", {}]]}, text)
    assert share.score == pytest.approx(2 / 3) and share.reason == "wrong"


def test_an_unknown_instruction_is_the_graders_fault() -> None:
    assert grade(Follow(), {"instructions": [["no:such", {}]]}, "x").reason == "grader_failed"
    with pytest.raises(DataError, match="no check"):
        followed("x", "no:such", {})


def test_sentences_are_cut_where_a_reader_would() -> None:
    assert prose.sentences("Dr. Lee came at 3 p.m. on Monday. He left. 비가 온다. 눈도 온다!") == [
        "Dr. Lee came at 3 p.m. on Monday.", "He left.", "비가 온다.", "눈도 온다!",
    ]  # fmt: skip
    assert prose.sentences("J. K. Rowling wrote it... and more. it works.") == [
        "J. K. Rowling wrote it... and more.", "it works.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "count"),
    [("cat", 1), ("water", 2), ("banana", 3), ("make", 1), ("table", 2), ("walked", 1), ("wanted", 2), ("beautiful", 3), ("idea", 3), ("rhythm", 1)],
)  # fmt: skip
def test_syllables(word: str, count: int) -> None:
    assert prose.syllables(word) == count


@pytest.mark.shared
@pytest.mark.parametrize(("pack", "file", "count"), [("ifeval", "input_data", 834), ("ifbench", "IFBench_test", 342)])
def test_every_published_instruction_can_be_checked(shared_packs: Path, pack: str, file: str, count: int) -> None:
    rows, _ = read_rows(shared_packs / pack / f"{file}.jsonl.gz")
    pairs = [pair for row in rows for pair in zip(row["instruction_id_list"], row["kwargs"], strict=True)]
    assert len(pairs) >= count - 10
    for name, given in pairs:
        for text in ("Take one.", "비가 온다. 눈이 온다.", "* a\n- b\n\n1, 2; 3: x? y! (z)"):
            assert followed(text, name, given, loose=True) in (True, False)
