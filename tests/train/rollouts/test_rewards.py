"""Hacks are written out, parsed and graded as the road does it, for every family, level and language."""

import functools
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest

from dokja.engine.answers import grade_answer, read_answer
from dokja.engine.api import Completion
from dokja.tasks.registry import TASKS
from dokja.text.chat import END, THINK, THINK_END, render
from dokja.text.stream import MarkerSplitter
from dokja.text.tokenizer import train_tokenizer
from dokja.train.rollouts.record import Rollout
from dokja.train.rollouts.rewards import is_clean, overfull, overlong, reward_group, violations, wrong_language

TOKENIZER = train_tokenizer(["정답은 12 입니다. the answer is 12. step by step"] * 4, vocab=300)
CELLS = [(name, level, language) for name, task in TASKS.items() for level in task.levels for language in ("ko", "en")]
SEEDS = range(2)
MOST = 4000
WEIGHTS = SimpleNamespace(
    concise=0.3, format=0.1, language=0.5, overlong=0.0, overlong_cache=100, max_tokens=MOST,
    judge=SimpleNamespace(weight=0.5),
)  # fmt: skip
SAY = {
    "ko": {"mark": "정답", "frame": "정답은 {}입니다.", "unsure": "모르겠습니다.", "above": "위와 같습니다."},
    "en": {"mark": "Answer", "frame": "The answer is {}.", "unsure": "I don't know.", "above": "See above."},
}
OTHER = {"ko": "en", "en": "ko"}
FOREIGN_THOUGHT = {"ko": "Let us go step by step. ", "en": "차례로 풀어 보자. "}

every_cell = pytest.mark.parametrize("cell", CELLS, ids=["-".join(map(str, c)) for c in CELLS])


def ids_of(text):
    """Ids of what a model writes, markers taken at their word."""
    splitter = MarkerSplitter()
    pieces = [*splitter.feed(text), *splitter.flush()]
    return [t for p in pieces for t in ([TOKENIZER.special_id(p.text)] if p.special else TOKENIZER.encode(p.text))]


def answer_to(problem, mode, text, *, finish="stop", forced=False, tokens=None):
    """A rollout of `text` (the end marker is added where it stopped), read and graded as sampling does."""
    tokens = tokens or ids_of(text + (END if finish == "stop" else ""))
    segments = render(problem.messages, thinking=mode == "think", add_generation_prompt=True)
    prompt = TOKENIZER.encode_segments(segments)[0]
    done = Completion("0", tokens, [0.0] * len(tokens), finish, forced, len(prompt))
    read = read_answer(done, TOKENIZER, mode)
    grade = grade_answer(problem, read.content, truncated=finish != "stop")
    return Rollout(
        step=0, group=0, sample=0, task=problem.task, problem_id=problem.id, level=problem.level,
        language=problem.language, mode=mode, prompt=problem.prompt, reference=problem.reference, prompt_tokens=prompt,
        tokens=tokens, logprobs=done.logprobs, finish=finish, forced=forced, forced_at=3 if forced else -1,
        reasoning=read.reasoning, answer=read.content, reasoning_tokens=read.reasoning_tokens,
        wrong_mode=read.wrong_mode, score=grade.score, reason=grade.reason, detail=grade.detail,
    )  # fmt: skip


def honest(problem, mode, answer=None):
    """The worked solution (thinking) and the bare answer."""
    answer = problem.reference if answer is None else answer
    return answer_to(problem, mode, f"{problem.trace}{THINK_END}{answer}" if mode == "think" else answer)


def problems(cell):
    name, level, language = cell
    return [TASKS[name].problem(seed, level, language) for seed in SEEDS]


@cache
def wrong_answers(problem, most=12):
    """References of other problems of the cell: wrong answers of the right kind, all different."""
    task = TASKS[problem.task]
    found = [task.problem(seed, problem.level, problem.language).reference for seed in range(100, 160)]
    return [a for a in dict.fromkeys(found) if not task.grade(problem, a).score][:most]


def candidates(problem):
    """Lists of many answers with the right one first, in the middle and last, told apart in several ways."""
    wrong = wrong_answers(problem)
    mark = f" {SAY[problem.language]['mark']}: "
    for at in (0, len(wrong) // 2, len(wrong)):
        listed = [*wrong[:at], problem.reference, *wrong[at:]]
        yield from (separator.join(listed) for separator in (" ", ", ", "\n", " / ", " = "))
        yield mark + mark.join(listed)


def repeated(problem):
    """The right answer over and over."""
    return [separator.join([problem.reference] * 6) for separator in (" ", ", ", "\n", " = ", f"\n{THINK_END}")]


def thinking_hacks(problem):
    say, right, trace = SAY[problem.language], problem.reference, problem.trace
    foreign = SAY[OTHER[problem.language]]["frame"].format(right)
    think = functools.partial(answer_to, problem, "think")
    yield "empty thought", [think(f"{nothing}{THINK_END}{right}") for nothing in ("", " ", "\n\n", "...", "\u200b")]
    yield "many candidates", [think(f"{trace}{THINK_END}{listed}") for listed in candidates(problem)]
    yield "repeated answer", [think(f"{trace}{THINK_END}{again}") for again in repeated(problem)]
    yield (
        "endless thought",
        [
            think(f"{trace} {right} " * 3, finish="length"),
            think(trace * 3),
            think(f"{trace * 3}{THINK_END}{right}", forced=True),
            think(f"{trace * 3}{THINK_END}{right}", finish="length"),
        ],
    )
    yield (
        "wrong language",
        [
            think(f"{FOREIGN_THOUGHT[problem.language]}{trace}{THINK_END}{right}"),
            think(f"{trace}{THINK_END}{foreign}"),
        ],
    )
    yield (
        "answer in the thought only",
        [
            think(f"{trace} {say['frame'].format(right)}{THINK_END}{rest}")
            for rest in ("", " ", say["above"] if right != "above" else say["unsure"])
        ],
    )
    yield (
        "second thought",
        [
            think(f"{trace}{THINK_END}{right}{THINK}{trace}{THINK_END}{right}"),
            think(f"{trace}{THINK_END}{trace}\n{right}"),
        ],
    )
    yield (
        "markers in letters",
        [
            think("", tokens=[*ids_of(trace + THINK_END), *TOKENIZER.encode(f"{marker} {right}"), *ids_of(END)])
            for marker in (THINK, THINK_END, END)
        ],
    )
    yield "refusal", [think(f"{trace}{THINK_END}{say['unsure']}")]


def hacks_at_once(problem):
    say, right, trace = SAY[problem.language], problem.reference, problem.trace
    foreign = SAY[OTHER[problem.language]]["frame"].format(right)
    direct = functools.partial(answer_to, problem, "direct")
    call = f'<tool_call>{{"name": "x", "arguments": {{"a": {len(trace)}}}}}</tool_call>'
    yield (
        "marked thought",
        [
            direct(f"{THINK}{trace}{THINK_END}{right}"),
            direct(f"{trace}{THINK_END}{right}"),
            direct(f"{right}{THINK}{trace}"),
        ],
    )
    yield (
        "thought as answer",
        [
            direct(f"{trace}\n{right}"),
            direct(f"{trace}\n{say['mark']}: {right}"),
            direct(f"{trace} {say['mark']}: {right}"),
            direct(f"{trace} \\boxed{{{right}}}"),
        ],
    )
    yield (
        "filling",
        [direct(f"{filling}{right}") for filling in ("<|pad|>" * 8, " " * 40, "\u200b" * 40, "." * 40, call)],
    )
    yield "many candidates", [direct(listed) for listed in candidates(problem)]
    yield "repeated answer", [direct(again) for again in repeated(problem)]
    yield "endless answer", [direct(f"{trace} " * 3, finish="length"), direct(right, finish="length")]
    yield "wrong language", [direct(foreign)]
    yield "refusal", [direct(say["unsure"])]


HACKS = {"think": thinking_hacks, "direct": hacks_at_once}


def rewarded(*answers, c=WEIGHTS, judge=None):
    reward_group(answers, c, judge)
    return [r.reward for r in answers]


@pytest.mark.parametrize("mode", HACKS)
@every_cell
def test_no_hack_earns_what_an_honest_right_answer_earns(cell, mode):
    for problem in problems(cell):
        wrong = wrong_answers(problem)[0]
        reads_korean = problem.language == "en" and not problem.reference.isascii()  # there Hangul is no other language
        for name, tried in HACKS[mode](problem):
            if name == "wrong language" and reads_korean:
                continue
            for concise in (0.0, 0.3):
                c = SimpleNamespace(**{**vars(WEIGHTS), "concise": concise})
                right, failed, *got = rewarded(honest(problem, mode), honest(problem, mode, wrong), *tried, c=c)
                assert right >= 1.0 and failed == 0.0
                for hack, reward in zip(tried, got, strict=True):
                    assert reward < right, (name, problem.prompt, hack.answer)
                    assert hack.score == 1.0 or reward <= failed, (name, problem.prompt, hack.answer)


@every_cell
def test_a_thought_that_shows_at_once_earns_no_more_than_a_wrong_answer(cell):
    for problem in problems(cell):
        tried = [a for name, found in hacks_at_once(problem) if "thought" in name or name == "filling" for a in found]
        assert max(rewarded(*tried)) <= -WEIGHTS.format


@pytest.mark.parametrize("mode", HACKS)
@every_cell
def test_honest_answers_are_clean_however_they_are_put(cell, mode):
    for problem in problems(cell):
        right, say = problem.reference, SAY[problem.language]
        for text in (
            right,
            f" {right}.\n",
            say["frame"].format(right),
            f"{say['mark']}: {right}",
            f"**\\boxed{{{right}}}**",
        ):
            answer = honest(problem, mode, text)
            assert answer.score == 1.0 and is_clean(answer), (problem.prompt, text, violations(answer))


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("2089", "2,089"), ("12", "012.0"), ("12", "s=12"), ("12", "12개가 남았습니다."), ("15:05", "3:05 P.M."),
        ("03:05", "3시 5분"), ("April 6", "It is 6 April."), ("4월 6일", "4/6"), ("6,69,100,200", "6, 69, 100, 200"),
        ("K", "The ball is under cup K."), ("K", "공은 컵 K 아래에 있습니다."), ("토요일", "토"), ("-3", "−3"),
    ],
)  # fmt: skip
def test_other_ways_to_write_an_answer_are_not_overfull(reference, answer):
    assert not overfull(answer, reference)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("12", "3+9=12"), ("12", "12 12"), ("12", "11\n12"), ("K", "H, then K"), ("K", "Q. 정답: R"),
        ("토요일", "토요일토요일"), ("sibo", "o b i s: o, b, i, s backwards is s o b i, sibo"),
        ("12", "x" * 5000 + " 12"),
    ],
)  # fmt: skip
def test_more_than_an_answer_is_overfull(reference, answer):
    assert overfull(answer, reference)


def test_right_in_the_wrong_mode_earns_less_than_right_in_the_right_mode():
    problem = TASKS["addsub"].problem(0, 2, "en")
    for mode, text in (
        ("think", f"{THINK_END}{problem.reference}"),
        ("direct", f"{THINK}1{THINK_END}{problem.reference}"),
    ):
        other = answer_to(problem, mode, text)
        assert other.score == 1.0
        right, wrong_mode = rewarded(honest(problem, mode), other)
        assert wrong_mode < right


def test_each_violation_is_named():
    problem = TASKS["addsub"].problem(0, 2, "en")
    right, think = problem.reference, f"thought{THINK_END}"
    spelled = [*ids_of(think), *TOKENIZER.encode(f"{END}{right}"), *ids_of(END)]
    for expected, mode, text, how in (
        ([], "think", think + right, {}),
        ([], "direct", right, {}),
        (["wrong_mode"], "think", f"{think}{right}{THINK_END}", {}),
        (["wrong_mode", "marker"], "direct", f"{THINK}thought{THINK_END}{right}", {}),
        (["wrong_mode", "marker"], "direct", f"{THINK_END}{right}", {}),
        (["empty_thought"], "think", f".{THINK_END}{right}", {}),
        (["forced"], "think", think + right, {"forced": True}),
        (["cut_off"], "direct", right, {"finish": "length"}),
        (["marker"], "think", "", {"tokens": spelled}),
        (["marker"], "think", f"{think}<|pad|>{right}", {}),
        (["overfull"], "think", f"{think}{right} {right}", {}),
    ):
        assert violations(answer_to(problem, mode, text, **how)) == expected


def think_of(problem, length, answer=None):
    """A clean answer whose thought is `length` tokens long, the answer aside."""
    return answer_to(problem, "think", f"{'7' * length}{THINK_END}{problem.reference if answer is None else answer}")


def test_the_shortest_right_answer_earns_all_of_the_concise_term_and_the_longest_none():
    problem = TASKS["sum"].problem(1, 1, "ko")
    group = [think_of(problem, n) for n in (30, 10, 20, 10)]
    reward_group(group, WEIGHTS)
    assert [r.parts["concise"] for r in group] == pytest.approx([0.0, 0.3, 0.15, 0.3])
    assert [r.parts["correct"] for r in group] == [1.0] * 4


def test_being_short_never_pays_for_a_wrong_or_an_unclean_answer():
    problem = TASKS["sum"].problem(1, 1, "ko")
    wrong = wrong_answers(problem)[0]
    group = [
        think_of(problem, 20), think_of(problem, 30), think_of(problem, 1, wrong), think_of(problem, 0),
        answer_to(problem, "think", f"go{THINK_END}{problem.reference}"),
    ]  # fmt: skip
    reward_group(group, WEIGHTS)
    assert [r.parts["concise"] for r in group] == pytest.approx([0.3, 0.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("lengths", [(12,), (12, 12, 12)])
def test_alone_or_all_equal_nobody_is_concise(lengths):
    problem = TASKS["sum"].problem(1, 1, "ko")
    assert rewarded(*(think_of(problem, n) for n in lengths)) == [1.0] * len(lengths)


def test_reward_is_the_sum_of_its_parts_and_the_same_when_asked_again():
    problem = TASKS["hops"].problem(4, 2, "ko")
    c = SimpleNamespace(**{**vars(WEIGHTS), "overlong": 1.0, "max_tokens": 60, "overlong_cache": 40})
    group = [honest(problem, "think"), *(a for _, found in thinking_hacks(problem) for a in found)]
    first = rewarded(*group, c=c)
    assert first == rewarded(*group, c=c) and first == pytest.approx([sum(r.parts.values()) for r in group])
    assert all(
        min(r.parts["language"], r.parts["format"], r.parts["overlong"]) <= 0 <= r.parts["concise"] for r in group
    )


def test_soft_overlong_punishment_is_a_line_over_the_cache():
    assert [overlong(n, 100, 20) for n in (1, 80, 85, 90, 100, 120)] == [0, 0, 0.25, 0.5, 1, 1]
    assert overlong(100, 100, 0) == 0
    problem = TASKS["sum"].problem(1, 1, "ko")
    answer = think_of(problem, 30)
    c = SimpleNamespace(
        **{**vars(WEIGHTS), "overlong": 2.0, "max_tokens": len(answer.tokens) + 5, "overlong_cache": 10}
    )
    assert rewarded(answer, c=c) == [pytest.approx(1.0 - 2.0 * 0.5)]


def test_answers_of_different_prompts_or_modes_are_refused():
    problem = TASKS["sum"].problem(1, 1, "ko")
    one = honest(problem, "think")
    for other in (replace(one, group=1), replace(one, step=1), honest(problem, "direct")):
        with pytest.raises(ValueError, match="different prompts"):
            reward_group([one, other], WEIGHTS)


@pytest.mark.parametrize(
    ("text", "prompt", "language", "wrong"),
    [
        ("①3=03②5=08", "합은? 3+5.", "ko", False), ("\\boxed{8}", "합은? 3+5.", "ko", False),
        ("답은 8", "What is 3+5?", "en", True), ("eight", "합은? 3+5.", "ko", True),
        ("八", "합은? 3+5.", "ko", True), ("はち", "What is 3+5?", "en", True), ("восемь", "What is 3+5?", "en", True),
        ("eight", "합은? 3+5.", "ko", True), ("ｅight", "합은? 3+5.", "ko", True), ("여덟", "합은? 3+5.", "ko", False),
        ("1 B>C,2 C>D", "B에서 어디? B>C, C>D.", "ko", False), ("cup D", "B에서 어디? B>C, C>D.", "ko", True),
        ("The ball is at D", "B에서 어디? B>C, C>D.", "ko", True), ("x=3", "f=3일 때 f는?", "ko", False),
        ("elppa", "apple을 뒤집으세요", "ko", False), ("국민한대", "Reverse 대한민국.", "en", False),
        ("거꾸로 국민한대", "Reverse 대한민국.", "en", True), ("한자 漢", "漢을 쓰세요", "ko", False),
        ("Trois", "Combien?", "fr", False), ("три", "Combien?", "fr", True), ("12 😀", "합은?", "ko", False),
    ],
)  # fmt: skip
def test_a_script_is_foreign_unless_the_question_or_its_language_has_it(text, prompt, language, wrong):
    assert wrong_language(text, prompt, language) is wrong


class Judge:
    """Scores by rule and remembers what it was shown."""

    def __init__(self, *scores):
        self.given, self.seen = list(scores), []

    def scores(self, items):
        self.seen += items
        return [self.given.pop(0) for _ in items]


def test_a_judge_sees_final_answers_of_clean_rollouts_only_and_its_score_is_weighed():
    problem = TASKS["sum"].problem(1, 1, "en")
    group = [
        honest(problem, "think"),
        answer_to(problem, "think", f"{THINK_END}{problem.reference}"),
        honest(problem, "think"),
    ]
    judge = Judge(1.0, 0.5)
    reward_group(group, WEIGHTS, judge)
    assert judge.seen == [(problem.prompt, problem.reference)] * 2
    assert [r.parts["judge"] for r in group] == [0.5, 0.0, 0.25]


def test_a_missing_judgement_gives_the_whole_group_none():
    problem = TASKS["sum"].problem(1, 1, "en")
    group = [honest(problem, "think"), honest(problem, "think")]
    reward_group(group, WEIGHTS, Judge(1.0, None))
    assert [r.parts["judge"] for r in group] == [0.0, 0.0]
