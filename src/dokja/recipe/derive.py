"""From one dial to every number: fills what a recipe leaves out, each value beside its formula.

A key that is written in the recipe is never touched. Rates and batch sizes are starting points found on models of a
few million parameters; where a rule follows the literature the formula's comment says so.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel

from dokja.recipe.algorithms import ALGORITHMS, PREFERENCES
from dokja.recipe.schema import (
    AnswersConfig,
    JudgeConfig,
    LearningConfig,
    ModelConfig,
    PreferenceConfig,
    Recipe,
    RlConfig,
    SourceConfig,
    TokenizerConfig,
    TrainConfig,
)

ROW = 2048
"""Longest row by default from a checkpoint, whose context may be far beyond what is trained on."""
TOKENS_FROM_CHECKPOINT = 10_000_000

IMAGE_TOKEN = 11
"""Id of the marker <|image|> in every tokenizer of ours."""
TOKENS_PER_PARAMETER = 20
"""Hoffmann et al. 2022 (Chinchilla): about twenty tokens per parameter are compute-optimal."""

STAGES = ("pretrain", "context", "sft", "preference", "rl")

STEP_SIZE = {"pretrain": 1.0, "context": 0.3, "sft": 0.3, "preference": 0.0125, "rl": 0.1}
"""Peak rates as shares of pretraining's: a later stage starts from good weights and moves less."""


@dataclass(frozen=True)
class Derived:
    """One resolved key: where its value comes from. `formula` is empty unless `source` is "derived"."""

    key: str
    value: Any
    formula: str
    source: str


class _Filler:
    """Fills the gaps of one section, remembering the formula of each filled key."""

    def __init__(self, section: BaseModel, prefix: str, formulas: dict[str, str]) -> None:
        self.given, self.prefix, self.formulas = section, prefix, formulas
        self.filled: dict[str, Any] = {}

    def __call__(self, key: str, formula: str, value: Callable[[], Any]) -> Any:
        """The value of `key`: the recipe's own, or `value()` where the recipe has none."""
        written = getattr(self.given, key)
        if written is not None:
            return written
        self.filled[key] = value()
        self.formulas[f"{self.prefix}.{key}"] = formula
        return self.filled[key]

    def done(self) -> Any:
        return self.given.model_copy(update=self.filled)


def parameters(model: ModelConfig, vocab: int) -> int:
    """Parameters that multiply every token: the layers' matrices (of experts, those that a token meets) and the output
    head, not the embedding's lookup."""
    attention = 2 * model.width * (model.heads + model.kv_heads) * model.head_dim
    feed_forward = (3 if model.activation == "swiglu" else 2) * model.width * model.ffn
    dense = model.layers
    if m := model.moe:
        dense = min(m.dense, dense)
        experts = model.width * (3 * m.ffn * (m.active + m.shared) + m.experts)
        return model.layers * attention + dense * feed_forward + (model.layers - dense) * experts + vocab * model.width
    return dense * (attention + feed_forward) + vocab * model.width


def derive(recipe: Recipe, sources: Mapping[str, str] | None = None) -> tuple[Recipe, list[Derived]]:
    """Fill every gap of `recipe`; `sources` tells for dotted keys where they were written ("set in tiny.toml").

    Returns the filled recipe and one row per key of every section in use, in the order of the schema.
    """
    formulas: dict[str, str] = {}
    tokenizer = _tokenizer(recipe, formulas)
    model = _model(recipe, formulas)
    judge = _judge(recipe, model, formulas)
    stages: dict[str, LearningConfig] = {}
    for stage in STAGES:
        given = getattr(recipe, stage)
        if isinstance(given, TrainConfig):
            stages[stage] = _stage(stage, given, recipe, model, tokenizer.vocab, stages.get("pretrain"), formulas)
        elif given is not None:
            stages[stage] = _answers(stage, given, recipe, model, judge, formulas)
    fill = _Filler(recipe.corpus, "corpus", formulas)
    listed = fill("sources", "every task family", lambda: (SourceConfig(kind="tasks", name="tasks"),))
    filled_sources = tuple(_source(source, i, recipe.scale, formulas) for i, source in enumerate(listed))
    corpus = recipe.corpus.model_copy(update={"sources": filled_sources})
    fill = _Filler(recipe.release, "release", formulas)
    fill("name", "name of the recipe", lambda: recipe.name)
    filled = {"tokenizer": tokenizer, "model": model, "corpus": corpus, "judge": judge, "release": fill.done()}
    if recipe.lora:
        rank, pairs = recipe.lora.rank, _Filler(recipe.lora, "lora", formulas)
        pairs("alpha", f"2 · rank {rank}", lambda: 2.0 * rank)
        filled["lora"] = pairs.done()
    whole = recipe.model_copy(update={**filled, **stages})
    return whole, _rows(whole, formulas, sources or {})


def _tokenizer(recipe: Recipe, formulas: dict[str, str]) -> TokenizerConfig:
    fill = _Filler(recipe.tokenizer, "tokenizer", formulas)
    fill("vocab", "256 · scale², within 1024 and 65536", lambda: min(65536, max(1024, 256 * recipe.scale**2)))
    return fill.done()


def _model(recipe: Recipe, formulas: dict[str, str]) -> ModelConfig:
    given, scale = recipe.model, recipe.scale
    fill = _Filler(given, "model", formulas)
    fill("layers", "scale", lambda: scale)
    width = fill("width", f"64 · scale {scale}", lambda: 64 * scale)
    head_dim = fill("head_dim", "64 if width ≥ 512 else 32", lambda: 64 if width >= 512 else 32)
    heads = fill("heads", f"width {width} / head_dim {head_dim}", lambda: max(1, width // head_dim))
    fill("kv_heads", f"largest divisor of heads {heads} up to half of it", lambda: half_divisor(heads))
    if given.activation == "swiglu":
        fill("ffn", f"8/3 · width {width}, up to a multiple of 32", lambda: _up(8 * width, 3 * 32) * 32)
    else:
        fill("ffn", f"4 · width {width}", lambda: 4 * width)
    written = [section.seq_len for stage in STAGES if (section := getattr(recipe, stage)) and section.seq_len]
    if written:
        context = fill("context", "longest seq_len of the stages", lambda: max(written))
    else:
        context = fill("context", f"128 · scale {scale}, at most 4096", lambda: min(4096, 128 * scale))
    if "L" in given.pattern:
        fill("window", f"context {context} / 4, at least 16", lambda: max(16, context // 4))
    if vision := given.vision:
        inner = _Filler(vision, "model.vision", formulas)
        inner("image_token", "id of <|image|> in our tokenizers", lambda: IMAGE_TOKEN)
        fill.filled["vision"] = inner.done()
    if moe := given.moe:
        width, together = fill.filled.get("ffn") or given.ffn, moe.active + moe.shared
        inner = _Filler(moe, "model.moe", formulas)
        formula = f"ffn {width} / {together} experts a token meets, up to a multiple of 16"
        inner("ffn", formula, lambda: _up(width, 16 * together) * 16)
        fill.filled["moe"] = inner.done()
    return fill.done()


def _longest(recipe: Recipe, model: ModelConfig) -> tuple[int, str]:
    """The longest row one trains or answers in where the recipe says nothing, and its formula."""
    if recipe.init and model.context > ROW:
        return ROW, f"model.context {model.context:,}, at most {ROW} from a checkpoint"
    return model.context, "model.context"


def _judge(recipe: Recipe, model: ModelConfig, formulas: dict[str, str]) -> JudgeConfig:
    fill, row = _Filler(recipe.judge, "judge", formulas), _longest(recipe, model)[0]
    name = "context" if row == model.context else "rows of at most"
    longest = fill("max_tokens", f"3/4 · {name} {row}", lambda: max(1, row * 3 // 4))
    fill("budget", f"7/8 · max_tokens {longest}", lambda: max(1, longest * 7 // 8))
    filled: JudgeConfig = fill.done()
    return filled


def _rates(fill: _Filler, stage: str, given: LearningConfig, recipe: Recipe, model: ModelConfig) -> None:
    """Wider matrices take smaller steps; so do later stages, and any stage from a checkpoint."""
    later = STEP_SIZE["context" if recipe.init and stage == "pretrain" else stage]
    narrow = math.sqrt(256 / model.width)
    tail = f"√(256 / width {model.width})" + ("" if later == 1.0 else f" · {later} after pretraining")
    relative = fill("optimizer", "muon", lambda: "muon") == "adafactor"
    for key, peak in (("lr_matrix", 0.02), ("lr_embed", 0.02), ("lr_head", 0.004), ("lr_other", 0.004)):
        if relative and key != "lr_other":
            fill(key, f"0.01 of the weights' own size · {later}", partial(_round, 0.01 * later))
        else:
            fill(key, f"{peak} · {tail}", partial(_round, peak * narrow * later))
    if given.schedule == "wsd":
        fill("decay", "0.3 in pretraining, 0.5 after", lambda: 0.3 if stage == "pretrain" else 0.5)
    else:
        fill("decay", "cosine falls from the warm-up on", lambda: 1.0 - given.warmup)
    answers = isinstance(given, AnswersConfig)
    fill("weight_decay", "0 on answers of its own" if answers else "0.1", lambda: 0.0 if answers else 0.1)


def _balance(fill: _Filler, model: ModelConfig, steps: int) -> None:
    """Biases can cross the range of the scores, 0 to 1, several times; a long run's are K-EXAONE's."""
    if model.moe:
        formula = f"5 / steps {steps:,}, within 0.0001 (K-EXAONE) and 0.01"
        fill("balance_rate", formula, lambda: _round(min(0.01, max(0.0001, 5 / max(1, steps)))))
        fill("balance_loss", "0.0001 (K-EXAONE)", lambda: 0.0001)


def _answers(
    stage: str,
    given: AnswersConfig,
    recipe: Recipe,
    model: ModelConfig,
    judge: JudgeConfig,
    formulas: dict[str, str],
) -> AnswersConfig:
    """A stage on the model's own answers: limits as in the judge, the rest as its algorithm was published."""
    fill = _Filler(given, stage, formulas)
    row, formula = _longest(recipe, model)
    fill("seq_len", formula, lambda: row)
    _rates(fill, stage, given, recipe, model)
    longest = fill("max_tokens", "judge.max_tokens", lambda: judge.max_tokens)
    fill("budget", f"judge.budget, less than max_tokens {longest}", lambda: min(judge.budget, max(1, longest - 8)))
    fill("overlong_cache", f"max_tokens {longest} / 4", lambda: max(1, longest // 4))
    if isinstance(given, RlConfig):
        for key, value in ALGORITHMS[given.algorithm].items():
            fill(key, f"as {given.algorithm} has it", partial(_same, value))
        steps = given.steps
    else:
        assert isinstance(given, PreferenceConfig)
        for key, number in PREFERENCES[given.objective].items():
            fill(key, f"as {given.objective} has it", partial(_same, number))
        fill("overlong", "only RL punishes length near the limit", lambda: 0.0)
        steps = given.prompts * given.epochs // given.batch_pairs
    _balance(fill, model, steps)
    each = fill("checkpoint_every", f"steps {steps:,} / 5, within 5 and 100", lambda: min(100, max(5, steps // 5)))
    fill("eval_every", f"checkpoint_every {each}", lambda: each)
    filled: AnswersConfig = fill.done()
    return filled


def _same(value: Any) -> Any:
    return value


def _stage(
    stage: str,
    given: TrainConfig,
    recipe: Recipe,
    model: ModelConfig,
    vocab: int,
    pretrain: LearningConfig | None,
    formulas: dict[str, str],
) -> TrainConfig:
    fill = _Filler(given, stage, formulas)
    n = parameters(model, vocab)
    if recipe.init:
        tokens = fill("tokens", "10 M from a checkpoint", lambda: TOKENS_FROM_CHECKPOINT)
    elif not isinstance(pretrain, TrainConfig):
        tokens = fill("tokens", f"20 · {n:,} parameters", lambda: TOKENS_PER_PARAMETER * n)
    else:
        tokens = fill("tokens", f"pretrain.tokens {pretrain.tokens:,} / 4", lambda: max(1, pretrain.tokens // 4))
    if stage == "pretrain" and recipe.context is not None:
        seq_len = fill("seq_len", "context / 4: [context] lengthens it", lambda: max(1, model.context // 4))
    else:
        row, formula = (model.context, "model.context") if stage == "context" else _longest(recipe, model)
        seq_len = fill("seq_len", formula, lambda: row)
    # The batch that wastes no data grows with about the square root of the tokens (Zhang et al. 2024 fit 0.47).
    rows = batch_rows(tokens, seq_len)
    batch = fill("batch_tokens", f"5 · √tokens, as 2ⁿ rows: {rows} of {seq_len}", lambda: rows * seq_len)

    _rates(fill, stage, given, recipe, model)
    # DeepSeek-V3 (arXiv 2412.19437, 4.2) starts with 0.3 and ends with 0.1; EXAONE 4.5 has 0.05.
    formula = "0.1 with [model.mtp]" if model.mtp else "0 without [model.mtp]"
    fill("mtp_loss", formula, lambda: 0.1 if model.mtp else 0.0)
    steps = -(-tokens // batch)
    _balance(fill, model, steps)
    each = fill("checkpoint_every", f"steps {steps:,} / 10, within 20 and 500", lambda: min(500, max(20, steps // 10)))
    fill("eval_every", f"checkpoint_every {each}", lambda: each)
    return fill.done()


def _source(given: SourceConfig, index: int, scale: int, formulas: dict[str, str]) -> SourceConfig:
    fill = _Filler(given, f"corpus.sources.{index}", formulas)
    if given.kind == "tasks":
        fill("problems", f"20,000 · scale {scale}", lambda: 20_000 * scale)
    return fill.done()


def half_divisor(heads: int) -> int:
    """Largest divisor of `heads` that is at most half of it, and at least 1: grouped-query attention by default."""
    return max((d for d in range(1, heads // 2 + 1) if heads % d == 0), default=1)


def batch_rows(tokens: int, seq_len: int) -> int:
    """Rows of `seq_len` in a batch of about 5·√tokens tokens: a power of two, and no more than the stage has tokens."""
    rows = 2 ** round(math.log2(max(1.0, 5 * math.sqrt(tokens) / seq_len)))
    while rows > 1 and rows * seq_len > tokens:
        rows //= 2
    return rows


def _up(value: int, step: int) -> int:
    return -(-value // step)


def _round(value: float) -> float:
    return float(f"{value:.3g}")


def _rows(recipe: Recipe, formulas: Mapping[str, str], sources: Mapping[str, str]) -> list[Derived]:
    rows: list[Derived] = []

    def walk(section: BaseModel, prefix: str) -> None:
        for name in type(section).model_fields:
            key, value = f"{prefix}{name}", getattr(section, name)
            if isinstance(value, BaseModel):
                walk(value, f"{key}.")
            elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
                for i, item in enumerate(value):
                    walk(item, f"{key}.{i}.")
            elif key in formulas:
                rows.append(Derived(key, value, formulas[key], "derived"))
            elif value is not None or key in sources:
                rows.append(Derived(key, value, "", sources.get(key, "default")))

    walk(recipe, "")
    return rows
