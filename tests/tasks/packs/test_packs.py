"""Definitions, where data lies, and how rows become problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dokja.errors import ConfigError, DataError
from dokja.tasks.packs.definition import parse_definition, read_definition
from dokja.tasks.packs.load import find_definition, load_pack, pack_names
from dokja.tasks.packs.readers import fill
from dokja.tasks.packs.rows import read_rows
from dokja.tasks.problem import Problem
from dokja.tasks.registry import find_task
from dokja.text.chat import Message

NAMED = """mmlu mmlu-pro mmlu-redux gpqa-diamond hle math-500 aime-2024 aime-2025 csat-math-2025 livecodebench-v5
    livecodebench-v6 scicode humaneval mbpp ifeval ifbench tau2 kmmlu kmmlu-pro kmmlu-redux kobalt click kobest hae-rae
    needle-grid ruler-style mmmu mmmu-pro mathvision mathvista wemath logicvista kgc-safety gsm8k core-ko-en""".split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def nothing_beside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data lies beside the working folder, unless a test puts it there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOKJA_PACKS", raising=False)


def test_every_named_benchmark_is_defined() -> None:
    assert set(NAMED) <= set(pack_names())
    for name in pack_names():
        definition = find_definition(name)
        assert definition.name == name and definition.title and definition.licence["spdx"]
        assert definition.source and definition.repeats >= 1


@pytest.mark.parametrize("name", [n for n in pack_names() if not find_definition(n).shipped and n != "tau2"])
def test_missing_data_is_said_in_one_sentence(name: str) -> None:
    with pytest.raises(DataError) as raised:
        load_pack(name)
    said = str(raised.value)
    assert f"The data of {name} is not here" in said and "--data PATH" in said and "Licence:" in said
    assert ("not shipped" in said) is not find_definition(name).licence["redistributable"]


def test_published_settings_are_in_the_packs() -> None:
    assert [find_definition(n).repeats for n in ("gpqa-diamond", "aime-2025", "math-500", "ifbench")] == [8, 32, 4, 5]
    assert find_definition("gpqa-diamond").sampling["think"]["temperature"] == 0.6
    assert find_definition("tau2").scoring["weights"] == {"retail": 114, "airline": 50, "telecom": 114}
    assert {t.name: t.items for t in find_definition("csat-math-2025").tasks}["common"] == 22


def test_an_agents_benchmark_is_no_list_of_problems() -> None:
    with pytest.raises(ConfigError, match="in many turns"):
        load_pack("tau2")


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'gsm8k'"):
        load_pack("gsm8")


ROWS = [
    {"id": n, "q": f"{n} + {{1}}?", "opts": [str(n), str(n + 1), "x"], "right": 2, "kind": "ab"[n % 2]}
    for n in range(6)
]


def make(folder: Path, rows: list[dict[str, Any]] = ROWS, **task: Any) -> Path:
    """A pack of one choice task in `folder`, with its data beside."""
    folder.mkdir(exist_ok=True)
    reader = {
        "kind": "choice",
        "question": "{q}",
        "options": "opts",
        "answer": {"field": "right", "as": "number"},
        "id": "id",
    }
    one = {
        "name": "sums", "language": "en", "files": ["rows.jsonl"], "reader": reader | task.pop("reader", {}),
        "prompt": "{question}\n{options}\n{first}-{last}", "grader": {"name": "choice"}, **task,
    }  # fmt: skip
    raw = {
        "name": "mine", "version": "1", "title": "t", "source": {"page": "here"}, "licence": {"spdx": "MIT"},
        "repeats": 1, "tasks": [one],
    }  # fmt: skip
    (folder / "pack.json").write_text(json.dumps(raw))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_folder_is_a_pack(tmp_path: Path) -> None:
    pack = load_pack(str(make(tmp_path / "a")))
    first = pack.problems[0]
    assert first.id == "mine/sums/0" and first.task == "mine/sums" and first.language == "en"
    assert first.prompt == "0 + {1}?\nA. 0\nB. 1\nC. x\nA-C"  # braces of the data stay
    assert find_task("mine/sums").grade(first, "Answer: B").reason == "right"
    assert find_task("mine/sums").grade(first, "Answer: A").reason == "wrong"
    assert pack.unpinned == ("sums",)


def test_data_is_pinned_by_its_hash(tmp_path: Path) -> None:
    digest = load_pack(str(make(tmp_path / "a"))).files["sums"]
    assert load_pack(str(make(tmp_path / "b", sha256=digest))).unpinned == ()
    make(tmp_path / "c", sha256=digest, rows=ROWS[:5])
    with pytest.raises(DataError, match="is not what mine 1 was defined on"):
        load_pack(str(tmp_path / "c"))
    with pytest.raises(DataError, match="holds 6 items of sums, not 7"):
        load_pack(str(make(tmp_path / "d", items=7)))


def test_a_smaller_choice_is_part_of_a_larger_one(tmp_path: Path) -> None:
    name = str(make(tmp_path / "a"))
    ids = [{p.id for p in load_pack(name, limit=k).problems} for k in (2, 4, 6, 99)]
    assert [len(i) for i in ids] == [2, 4, 6, 6] and ids[0] < ids[1] < ids[2] == ids[3]
    with pytest.raises(ConfigError, match="asks nothing"):
        load_pack(name, limit=0)


def test_rows_are_chosen_and_options_shuffled_alike_for_everybody(tmp_path: Path) -> None:
    assert len(load_pack(str(make(tmp_path / "a", reader={"where": {"kind": ["a"]}}))).problems) == 3
    assert len(load_pack(str(make(tmp_path / "b", reader={"range": {"id": [2, 4]}}))).problems) == 3
    shuffled = [load_pack(str(make(tmp_path / n, reader={"shuffle": True}))).problems for n in ("c", "d")]
    assert [p.prompt for p in shuffled[0]] == [p.prompt for p in shuffled[1]]
    for problem in shuffled[0]:
        reference = json.loads(problem.reference)
        assert reference["options"][reference["answer"]] == str(int(problem.id.rpartition("/")[2]) + 1)
    assert len({json.loads(p.reference)["answer"] for p in shuffled[0]}) > 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"repeats": 0}, "`repeats` is 0"),
        ({"colour": 1}, "'colour', which means nothing"),
        ({"licence": {}}, "needs `spdx`"),
        ({"sampling": {"slowly": {}}}, "think and direct"),
        ({"tasks": []}, "one at least"),
        ({"tasks": [{"name": "a", "language": "fr"}]}, "a language"),
        ({"tasks": [{"name": "a", "language": "ko", "files": ["f"], "reader": {"kind": "text"}}]}, "needs a `grader`"),
        ({"tasks": [{"name": "a", "language": "ko", "grader": {"name": "maths"}}]}, "needs `files`"),
    ],
)
def test_definitions_that_cannot_be_meant_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    raw = json.loads((make(tmp_path / "a") / "pack.json").read_text()) | change
    with pytest.raises(DataError, match=words):
        parse_definition(raw, tmp_path)


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pack at"):
        read_definition(tmp_path / "nowhere")
    (tmp_path / "pack.json").write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        read_definition(tmp_path)
    (tmp_path / "x.jsonl.gz").write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path / "x.jsonl.gz")
    with pytest.raises(DataError, match="is it the right file"):
        load_pack(str(make(tmp_path / "a", rows=[{"other": 1}])))
    with pytest.raises(DataError, match="The prompt asks for"):
        load_pack(str(make(tmp_path / "b", prompt="{colour}")))


def test_tables_and_arrays_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q,a\n1,2\n")
    (tmp_path / "b.tsv").write_text("q\ta\n1\t2\n")
    (tmp_path / "c.json").write_text('[{"q": "1", "a": "2"}]')
    assert [read_rows(tmp_path / n)[0] for n in ("a.csv", "b.tsv", "c.json")] == [[{"q": "1", "a": "2"}]] * 3
    assert fill("{a b} {} {{x}}", {"a b": "{y}", "x": 1}) == "{y} {} {1}"


def test_pickled_tests_are_not_opened(tmp_path: Path) -> None:
    row = {
        "question_id": "1", "question_content": "q", "public_test_cases": "[]", "private_test_cases": "eJxrYJ0qwA==",
        "contest_date": "2024-10-01T00:00:00", "difficulty": "easy", "platform": "x", "metadata": "{}",
    }  # fmt: skip
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match="a pickle, which nobody should open"):
        load_pack("livecodebench-v5", data=tmp_path)


def test_a_livecodebench_row_is_asked_and_graded(tmp_path: Path) -> None:
    cases = [{"input": "2 3\n", "output": "5\n", "testtype": "stdin"}]
    base = {
        "question_content": "Add.",
        "difficulty": "easy",
        "platform": "x",
        "metadata": "{}",
        "private_test_cases": "[]",
    }
    rows = [
        base | {"question_id": n, "public_test_cases": json.dumps(cases), "contest_date": d}
        for n, d in (("in", "2024-10-01T00:00:00"), ("early", "2023-01-01T00:00:00"))
    ]
    call = [{"input": "2\n3", "output": "5", "testtype": "functional"}]
    rows.append(base | {"question_id": "call", "public_test_cases": json.dumps(call), "contest_date": "2025-01-02",
                        "metadata": '{"func_name": "add"}', "starter_code": "class Solution:"})  # fmt: skip
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = load_pack("livecodebench-v5", data=tmp_path).problems
    assert [p.id.rpartition("/")[2] for p in found] == ["in", "call"]
    assert "assert Solution().add(*[2, 3]) == 5" in json.loads(found[1].reference)["tests"]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "items"),
    [("gsm8k", 1319), ("humaneval", 164), ("mbpp", 500), ("ifeval", 541), ("ifbench", 300), ("kobest", 4561),
     ("mmlu-pro-1500", 1500), ("bbh-8", 2000), ("math-vision-50", 50), ("logicvista-30", 30)],
)  # fmt: skip
def test_packs_beside_the_project_load_and_are_pinned(shared_packs: Path, name: str, items: int) -> None:
    pack = load_pack(name, images=False)
    assert len(pack.problems) == items and pack.unpinned == ()
    assert all(p.prompt.strip() and p.reference for p in pack.problems)


@pytest.mark.shared
def test_pictures_come_with_their_problems(shared_packs: Path) -> None:
    pack = load_pack("math-vision-50", limit=2)
    assert all(p.images[0].shape[2] == 3 for p in pack.problems) and find_task("math-vision-50").needs_images


@pytest.mark.shared
def test_the_right_answer_of_every_choice_is_graded_right(shared_packs: Path) -> None:
    for name in ("kobest", "mmlu-pro-1500"):
        for problem in load_pack(name, limit=200).problems:
            place = json.loads(problem.reference)["answer"]
            assert find_task(problem.task).grade(problem, f"생각...\n정답: {'ABCDEFGHIJ'[place]}").reason == "right"
            assert find_task(problem.task).grade(problem, "Answer: Z").reason == "wrong"


def test_a_record_can_be_graded_without_the_packs_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dokja.tasks.registry.LOADED", {})
    assert find_task("gsm8k").grade(_problem("gsm8k", "18"), "\\boxed{18}").reason == "right"
    reference = json.dumps({"answer": 1, "options": ["아니요", "예"]}, ensure_ascii=False)
    assert find_task("kobest/boolq").grade(_problem("kobest/boolq", reference), "정답: B").reason == "right"
    assert find_task("addsub").name == "addsub"
    with pytest.raises(ConfigError, match="no task 'gsm9k'"):
        find_task("gsm9k")


def _problem(task: str, reference: str) -> Problem:
    return Problem(f"{task}/0", task, 1, "ko", (Message("user", "?"),), reference, "")
