"""The model card: README.md of a release, from the run folder alone, in English and Korean.

The front matter is what hubs read; the rest is for a person who wonders whether to use the model. Every figure comes
from the run; what was not measured is not mentioned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from dokja.proof.card_stages import lessons, stages
from dokja.proof.figures import NONE, Both, count, duration, percent, points, power, size
from dokja.proof.licence import LICENCE_INPUT, UNKNOWN, by_id
from dokja.proof.report_parts import lede
from dokja.proof.report_read import Run
from dokja.proof.strings import say, stage_name
from dokja.text.chat import MODES

Language = Literal["en", "ko"]

_SHAPE = (
    ("num_hidden_layers", "card_layers"),
    ("hidden_size", "card_width"),
    ("num_attention_heads", "card_heads"),
    ("num_key_value_heads", "card_kv_heads"),
    ("head_dim", "card_head_dim"),
    ("intermediate_size", "card_ffn"),
    ("vocab_size", "card_vocab"),
    ("max_position_embeddings", "card_context"),
    ("sliding_window", "card_window"),
)


def model_card(run: Run) -> str:
    """The card as Markdown. `run` may lack any stage; its sections are then left out."""
    body = "\n".join(_language(run, code) for code in ("en", "ko"))
    return f"{_front_matter(run)}\n# {_line(_name(run))}\n\n[English](#english) · [한국어](#한국어)\n\n{body}"


def _front_matter(run: Run) -> str:
    """YAML, written as JSON values, which YAML reads and which no name or licence can break out of."""
    licence, base = str(_release(run).get("licence") or "apache-2.0").lower(), run.recipe.get("init")
    named = {"license": "other", "license_name": licence} if licence.startswith("licenseref-") else {"license": licence}
    fields: dict[str, Any] = {
        **named,
        **({"base_model": Path(str(base)).name} if base else {}),
        "language": ["ko", "en"],
        "pipeline_tag": "text-generation",
        "library_name": "transformers",
        "tags": ["dokja", "hybrid-reasoning", *([] if base else ["trained-from-scratch"])],
    }
    return "---\n" + "".join(f"{k}: {json.dumps(v, ensure_ascii=False)}\n" for k, v in fields.items()) + "---\n"


def _language(run: Run, code: Language) -> str:
    """The whole card in one language."""

    def t(words: Both) -> str:
        return _line(getattr(words, code))

    def section(title: Both, *parts: str) -> str:
        inside = "\n\n".join(part for part in parts if part)
        return f"### {t(title)}\n\n{inside}\n\n" if inside else ""

    def table(head: Iterable[Both], rows: Sequence[Sequence[Both | str]]) -> str:
        return _table([t(h) for h in head], [[t(c) if isinstance(c, Both) else _line(c) for c in row] for row in rows])

    authors = ", ".join(map(str, _release(run).get("authors") or ()))
    by = f" {t(say('card_authors', names=authors))}" if authors else ""
    chain = [t(say("ledger", n=str(run.ledger_entries))), f"`{run.ledger_head}`"] if run.ledger_head else []
    results = [t(say("card_results_lede")), table(*_results(run)), _headline(run, code)] if run.summary else []
    by_stage = table(*stages(run))
    parts = [
        f"## {'English' if code == 'en' else '한국어'}\n\n{t(lede(run))} {t(say('two_modes'))}{by}\n\n",
        section(say("card_base"), *(getattr(part, code) for part in _base(run))),
        section(say("card_results"), *results),
        section(say("card_stages"), *([t(say("card_stages_lede")), by_stage] if by_stage else [])),
        section(say("card_training"), "\n".join(f"- {t(line)}" for line in lessons(run))),
        section(say("heldout"), table(*_texts(run))),
        section(say("card_shape"), table((say("card_property"), say("value")), _shape(run))),
        section(say("card_data"), table(_DATA_HEAD, _data(run))),
        section(say("card_cost"), table(_COST_HEAD, _costs(run))),
        section(say("card_use"), _use(run, code)),
        section(say("card_limits"), "\n".join(f"- {t(limit)}" for limit in _limits(run))),
        section(say("proof"), *chain),
    ]
    return "".join(parts)


def _base(run: Run) -> list[Both]:
    """What the model was built from and under which licence, with what that asks; nothing for empty weights."""
    if not (init := run.recipe.get("init")):
        return []
    ids = [i[LICENCE_INPUT] for s in run.stages if LICENCE_INPUT in (i := s.manifest.get("inputs") or {})]
    licence = by_id(str(ids[0])) if ids else by_id(UNKNOWN)
    built = say("card_built_from", base=_line(Path(str(init)).name), licence=_line(licence.title))
    if run.recipe.get("lora"):
        pairs = say("card_lora", rank=str(run.recipe["lora"].get("rank")))
        built = Both(f"{built.en} {pairs.en}", f"{built.ko} {pairs.ko}")
    return [built, Both(licence.en, licence.ko)] if licence.en else [built]


_DATA_HEAD = [say(k) for k in ("source", "documents", "tokens", "bytes")]
_COST_HEAD = [say(k) for k in ("stage", "tokens", "flops", "attention", "time", "memory")]


def _results(run: Run) -> tuple[list[Both], list[list[Both | str]]]:
    """A row per family, a column per language and mode; all families together come first."""
    rows = run.summary.get("rows") or {}
    both = [*(rows.get("language") or []), *(rows.get("cell") or [])]
    found = {(r.get("task"), r["language"], r["mode"]): r["score"] for r in both}
    columns = [(lang, mode) for lang in ("ko", "en") for mode in MODES if (None, lang, mode) in found]
    head = [say("family"), *(say("card_column", language=say(lang), mode=say(mode)) for lang, mode in columns)]
    out: list[list[Both | str]] = []
    for task in dict.fromkeys(task for task, _, _ in found):
        scores = (found.get((task, *column)) for column in columns)
        name = say("all_families") if task is None else str(task).replace("_", " ")
        out.append([name, *(f"{percent(e['value'])} ({_range(e)})" if e else NONE for e in scores)])
    return head, out


def _headline(run: Run, code: Language) -> str:
    head = run.summary.get("headline") or {}
    lines = [(say(mode), f"{percent(e['value'])} ({_range(e)})") for mode in MODES if (e := head.get(mode))]
    if e := head.get("gap_needs_steps"):
        lines.append((say("card_gap"), _difference(e)))
    for mode, e in (head.get("ko_minus_en") or {}).items():
        lines.append((say("card_ko_minus_en", mode=say(mode)), _difference(e)))
    if head.get("answers"):
        lines.append((say("wrong_mode"), f"{head.get('wrong_mode', 0)} / {head['answers']:,}"))
    return "\n".join(f"- {getattr(name, code)}: {figure}" for name, figure in lines)


def _range(e: dict[str, float]) -> str:
    """Brackets would be links in Markdown."""
    return f"{100 * e['low']:.1f}–{100 * e['high']:.1f}"


def _difference(e: dict[str, float]) -> str:
    return f"{points(e['value'])} ({points(e['low'])} … {points(e['high'])})"


def _texts(run: Run) -> tuple[list[Both], list[list[Both | str]]]:
    names = list(dict.fromkeys(b for h in run.heldout for b in h["baselines"]))
    head = [say("source"), say("language"), say("this_model"), *map(Both.same, names)]
    rows: list[list[Both | str]] = []
    for h in run.heldout:
        values = (h["bits_per_byte"], *(h["baselines"].get(b) for b in names))
        name = say("all_sources") if h["name"] == "*" else h["name"]
        language = say(h["language"]) if h["language"] in ("ko", "en") else h["language"]
        rows.append([name, language, *(NONE if v is None else f"{v:.3f}" for v in values)])
    return head, rows


def _shape(run: Run) -> list[list[Both | str]]:
    rows: list[list[Both | str]] = []
    if run.shape.get("architectures"):
        rows.append([say("card_architecture"), ", ".join(map(str, run.shape["architectures"]))])
    if run.parameters:
        rows.append([say("card_parameters"), f"{run.parameters:,}"])
    pattern = run.shape.get("sliding_window_pattern") or (run.recipe.get("model") or {}).get("pattern")
    if pattern:
        rows.append([say("card_pattern"), str(pattern)])
    for key, name in _SHAPE:
        if isinstance(run.shape.get(key), int):
            rows.append([say(name), f"{run.shape[key]:,}"])
    return rows


def _data(run: Run) -> list[list[Both | str]]:
    return [
        [str(d["name"]), count(d.get("documents")), count(d.get("tokens")), size(d.get("utf8_bytes") or None)]
        for d in run.data
    ]


def _costs(run: Run) -> list[list[Both | str]]:
    rows: list[list[Both | str]] = []
    for stage in run.stages:
        c = stage.cost
        flops = (power(c.get(k) or None) for k in ("flops_6nd", "flops_attention"))
        memory = size(c.get("peak_memory_bytes"))
        rows.append(
            [stage_name(stage.name), count(c.get("tokens") or None), *flops, duration(c.get("seconds")), memory]
        )
    if rows:
        sums = (power(run.total(k) or None) for k in ("flops_6nd", "flops_attention"))
        rows.append([say("total"), "", *sums, duration(run.total("seconds")), size(run.peak_memory)])
    return rows


def _use(run: Run, code: Language) -> str:
    """How to load it, with transformers and with dokja; the folder is the one the card lies in."""
    setting = run.summary.get("settings") or {}
    tokens = setting.get("max_tokens") or 256
    question = "25 + 17은 얼마입니까?" if code == "ko" else "What is 25 + 17?"
    return f"""```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file lies
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
messages = [{{"role": "user", "content": "{question}"}}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, enable_thinking=True, return_tensors="pt", return_dict=True
)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens={int(tokens)})[0]))
```

```sh
dokja chat .     # /think, /no_think
dokja judge .
```"""


def _limits(run: Run) -> list[Both]:
    limits = [say("card_limit_scope")]
    head = run.summary.get("headline") or {}
    tasks = [r for r in (run.summary.get("rows") or {}).get("task") or [] if r["mode"] == "think"]
    weak = sorted((r["score"]["value"], str(r["task"]).replace("_", " ")) for r in tasks if r["score"]["value"] < 0.8)[
        :5
    ]
    if weak:
        limits.append(say("card_limit_weak", names=", ".join(f"{name} ({percent(v, 0)})" for v, name in weak)))
    if head.get("direct") and head.get("think"):
        limits.append(say("card_limit_direct", share=percent(head["direct"]["value"])))
    if isinstance(context := run.shape.get("max_position_embeddings"), int):
        limits.append(say("card_limit_context", n=f"{context:,}"))
    return limits


def _name(run: Run) -> str:
    return str(_release(run).get("name") or run.name)


def _release(run: Run) -> dict[str, Any]:
    section = run.recipe.get("release")
    return section if isinstance(section, dict) else {}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def _line(text: str) -> str:
    """Text on one line in which no name can start markup, HTML or a table cell."""
    return re.sub(r"([\\<>`\[\]*|])", r"\\\1", re.sub(r"[\r\n\t]+", " ", text))
