"""Graders beside each other over the answers of a judged run: ours, math-verify alone, lm-evaluation-harness's filters.

    python bench/grader_agreement.py FOLDER [--task gsm8k] [--limit N] [--json FILE]

FOLDER holds `records.jsonl`, as `dokja judge` leaves it. Every answer is graded by our cascade, by math-verify given
the whole answer, and by the two filters of lm-evaluation-harness's gsm8k, run by its own package where it is installed
(`flexible-extract`, `strict-match`; else the first as dokja has it written down). Told are how many each calls right,
how many verdicts each pair shares, and every answer on which they differ with what each read. `strict-match`
wants the form of few-shot examples (`#### 42`), which nobody asked the model for: it is told, and left out of the
disagreements.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from dokja.judge.records import read_records
from dokja.tasks.graders.agreement import Says, by_harness, by_math_verify, by_us, compare

FLEXIBLE = {"group_select": -1, "regex_pattern": r"(-?[$0-9.,]{2,})|(-?[0-9]+)"}
STRICT = {"regex_pattern": r"#### (\-?[0-9\.\,]+)"}
IGNORED = [",", r"\$", r"(?s).*#### ", r"\.$"]
"""As the package's tasks/gsm8k/gsm8k.yaml has them."""


def by_package(options: dict[str, object]) -> Callable[[str, str], Says]:
    """A filter of lm-evaluation-harness and its exact match, run by the package. Raises ImportError without it."""
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters.extraction import RegexFilter

    read = RegexFilter(**options)

    def says(reference: str, answer: str) -> Says:
        found = read.apply([[answer]], [{}])[0][0]
        if found == "[invalid]":
            return None, "nothing found"
        score = exact_match_hf_evaluate(
            predictions=[found], references=[reference], regexes_to_ignore=IGNORED, ignore_case=True
        )
        return bool(score["exact_match"]), f"read {found!r}"

    return says


def main() -> None:
    """Reads the command line, grades, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", default="gsm8k")
    parser.add_argument("--limit", type=int, help="answers, from the first")
    parser.add_argument("--json", type=Path, help="file to write the figures and disagreements to")
    args = parser.parse_args()
    records = [r for r in read_records(args.folder) if r.task == args.task][: args.limit]
    if not records:
        raise SystemExit(f"No record of {args.folder} is of the task {args.task!r}.")
    answers = [(r.reference, r.answer) for r in records]
    graders: dict[str, Callable[[str, str], Says]] = {"ours": by_us(), "math-verify": by_math_verify()}
    strict = None
    try:
        graders["lm-eval flexible"], strict = by_package(FLEXIBLE), by_package(STRICT)
    except ImportError:
        graders["lm-eval flexible (ours)"] = by_harness
    found = compare(answers, graders)
    print(found.table())
    if strict is not None:
        print(f"lm-eval strict: {sum(strict(*pair)[0] is True for pair in answers)}/{len(answers)} right")
    print(f"\n{len(found.disagreements)} disagreements\n")
    for one in found.disagreements:
        print(f"{records[one.place].problem_id}, repeat {records[one.place].repeat}: {one}\n")
    if args.json:
        told = {
            "answers": found.answers,
            "right": found.right,
            "pairs": {" = ".join(pair): n for pair, n in found.pairs.items()},
            "disagreements": [
                {"id": records[d.place].problem_id, "reference": d.reference, "answer": d.answer, "says": d.says}
                for d in found.disagreements
            ],
        }
        args.json.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
