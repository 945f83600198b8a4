"""Records as logs of Inspect (inspect_ai), for its viewer: the only file that knows that library, which is optional.

A log is a view: nothing is read back from it. One is written for each task and mode; a sample is a problem, an epoch a
repeat.

    dokja show records FOLDER --inspect OUT && inspect view --log-dir OUT
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from dokja.errors import ConfigError
from dokja.judge.records import RECORDS, Record, Usage, read_records
from dokja.judge.table import Row, rows_by

PINNED = "0.3.285"
"""The version that the logs were looked at with."""
SCORER = "dokja"


def write_logs(folder: str | Path, out: str | Path, form: Literal["eval", "json"] = "eval") -> list[Path]:
    """Writes the records of a judged folder into `out` -> the logs, in the order of the tasks.

    Raises ConfigError where inspect_ai is missing, DataError where the records cannot be read.
    """
    try:
        from inspect_ai.log import write_eval_log
    except ImportError as error:
        raise ConfigError(
            "Writing logs for Inspect needs inspect-ai, which is not installed. Run `pip install 'dokja[inspect]'`."
        ) from error
    records = read_records(folder)
    source = Path(folder) / RECORDS if Path(folder).is_dir() else Path(folder)
    made = datetime.fromtimestamp(int(source.stat().st_mtime), UTC)
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.task, record.mode), []).append(record)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for group in groups.values():
        log, first = _log(group, made), group[0]
        task = f"{first.task}-{first.mode}".replace("/", "-").replace("_", "-")
        path = out / f"{made:%Y-%m-%dT%H-%M-%S}+00-00_{task}_{log.eval.task_id}.{form}"
        write_eval_log(log, str(path), format=form)
        written.append(path)
    return written


def _log(records: Sequence[Record], made: datetime) -> Any:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalResults, EvalSpec, EvalStats
    from inspect_ai.model import GenerateConfig

    first = records[0]
    name = hashlib.sha256(json.dumps([first.task, first.mode, first.model_sha256]).encode()).hexdigest()[:22]
    ids = list(dict.fromkeys(record.problem_id for record in records))
    how, seconds = first.sampling, max(record.seconds for record in records)
    usage = {first.model: _usage([record.usage for record in records])}
    times = {"started_at": _iso(made.timestamp() - seconds), "completed_at": _iso(made.timestamp())}
    spec = EvalSpec(
        eval_id=name,
        run_id=name,
        created=times["started_at"],
        task=f"{first.task} ({first.mode})",
        task_id=name,
        dataset=EvalDataset(name=first.task, samples=len(ids), sample_ids=ids, shuffled=False),
        model=first.model,
        model_generate_config=GenerateConfig(
            temperature=how.temperature, top_p=how.top_p, max_tokens=how.max_tokens, top_k=how.top_k or None
        ),
        config=EvalConfig(epochs=max(record.repeat for record in records) + 1),
        metadata={
            "model_sha256": first.model_sha256,
            "template_sha256": first.template_sha256,
            "grader_version": first.grader_version,
            "budget": how.budget,
            "weights": how.weights,
            "simulated_user": (first.dialogue or {}).get("user"),
        },
    )
    (row,) = rows_by(records, ("mode",))
    return EvalLog(
        status="success",
        eval=spec,
        results=EvalResults(total_samples=len(records), completed_samples=len(records), scores=[_score_of(row)]),
        stats=EvalStats(**times, model_usage=usage),
        samples=[_sample(record) for record in records],
    )


def _score_of(row: Row) -> Any:
    from inspect_ai.log import EvalMetric, EvalScore

    values = {"mean": row.score.value, "low_95": row.score.low, "high_95": row.score.high}
    values |= {f"pass_at_{k}": value for k, value in row.pass_at.items() if k > 1}
    values |= {f"pass_hat_{k}": value for k, value in row.pass_hat.items() if k > 1}
    for reason in ("truncated", "unparseable", "refused", "grader_failed"):
        values[reason] = getattr(row, reason)
    metrics = {name: EvalMetric(name=name, value=v) for name, v in values.items() if math.isfinite(v)}
    return EvalScore(name=SCORER, scorer=SCORER, scored_samples=row.answers, unscored_samples=0, metrics=metrics)


def _sample(record: Record) -> Any:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput
    from inspect_ai.scorer import Score

    messages = _conversation(record) if record.dialogue else _answer(record)
    said = next((m for m in reversed(messages) if isinstance(m, ChatMessageAssistant)), None)
    usage = _usage([record.usage])
    choices = [] if said is None else [ChatCompletionChoice(message=said, stop_reason=_stop(record.finish))]
    known = {"reason": record.reason, "detail": record.detail, "finish": record.finish, "forced": record.forced}
    more: Mapping[str, Any] = record.dialogue or {}
    known |= {key: more[key] for key in ("ended", "parts", "basis", "user", "user_usage") if key in more}
    score = Score(
        value=record.score,
        answer=record.answer if record.extracted is None else record.extracted,
        explanation=f"{record.reason}: {record.detail}" if record.detail else record.reason,
        metadata=known,
    )
    return EvalSample(
        id=record.problem_id,
        epoch=record.repeat + 1,
        input=record.prompt,
        target=_target(record),
        messages=messages,
        output=ModelOutput(model=record.model, choices=choices, usage=usage),
        scores={SCORER: score},
        metadata={
            **known,
            "level": record.level,
            "language": record.language,
            "wrong_mode": record.wrong_mode,
            "seed": record.seed,
            "prompt_sha256": record.prompt_sha256,
            "raw": record.raw,
        },
        model_usage={record.model: usage},
        total_time=more.get("agent_seconds"),
        uuid=hashlib.sha256(repr(record.key).encode()).hexdigest()[:22],
    )


def _target(record: Record) -> str:
    """The reference; of a conversation the official actions and what has to be said or to be true, a line each."""
    if record.dialogue is None:
        return record.reference
    criteria = json.loads(record.reference)["criteria"]
    lines = [f"{a['name']} {json.dumps(a['arguments'], ensure_ascii=False)}" for a in criteria.get("actions") or ()]
    lines += [f"says: {said}" for said in criteria.get("communicate_info") or ()]
    lines += [f"at the end: {a['func_name']}" for a in criteria.get("env_assertions") or ()]
    return "\n".join(lines) or "nothing is changed"


def _answer(record: Record) -> list[Any]:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser

    return [
        ChatMessageUser(id="0", content=record.prompt),
        ChatMessageAssistant(id="1", content=_parts(record.reasoning, record.answer), model=record.model),
    ]


def _conversation(record: Record) -> list[Any]:
    """Every turn. Inspect knows tools of the assistant alone: what the simulated user calls stands as words."""
    from inspect_ai.model import ChatMessageAssistant, ChatMessageTool, ChatMessageUser
    from inspect_ai.tool import ToolCall, ToolCallError

    assert record.dialogue is not None
    out: list[Any] = []
    open_calls: list[str] = []
    for n, turn in enumerate(record.dialogue["turns"]):
        calls, content = turn.get("calls", ()), turn["content"]
        if turn["who"] == "agent":
            open_calls = [f"call_{n}_{k}" for k in range(len(calls))]
            made = [
                ToolCall(id=id, function=call["name"], arguments=call["arguments"])
                for id, call in zip(open_calls, calls, strict=True)
            ]
            said = _parts(turn.get("reasoning", ""), content)
            out.append(ChatMessageAssistant(id=str(n), content=said, tool_calls=made or None, model=record.model))
        elif turn["who"] == "tool" and turn["to"] == "agent":
            error = ToolCallError("unknown", content) if turn.get("error") else None
            name = open_calls.pop(0) if open_calls else None
            out.append(
                ChatMessageTool(id=str(n), content=content, tool_call_id=name, function=turn["call"], error=error)
            )
        elif turn["who"] == "tool":
            out.append(ChatMessageUser(id=str(n), content=f"[the phone answers {turn['call']}]\n{content}"))
        else:
            words = [f"[calls {call['name']} {json.dumps(call['arguments'], ensure_ascii=False)}]" for call in calls]
            out.append(ChatMessageUser(id=str(n), content="\n".join([content, *words]).strip()))
    return out


def _parts(reasoning: str, content: str) -> Any:
    from inspect_ai.model import ContentReasoning, ContentText

    return [ContentReasoning(reasoning=reasoning), ContentText(text=content)] if reasoning else content


def _usage(usages: Sequence[Usage]) -> Any:
    from inspect_ai.model import ModelUsage

    read, wrote = sum(u.prompt_tokens for u in usages), sum(u.completion_tokens for u in usages)
    thought = sum(u.reasoning_tokens for u in usages)
    return ModelUsage(input_tokens=read, output_tokens=wrote, total_tokens=read + wrote, reasoning_tokens=thought)


def _stop(finish: str) -> Any:
    return {"stop": "stop", "length": "max_tokens", "content_filter": "content_filter"}.get(finish, "unknown")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()
