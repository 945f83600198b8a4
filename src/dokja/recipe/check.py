"""Combinations that no key alone gives away. Every sentence says which key to change."""

from collections import Counter

from dokja.errors import ConfigError
from dokja.recipe.algorithms import KL_IN_LOSS, KL_IN_REWARD
from dokja.recipe.schema import AnswersConfig, Recipe, RlConfig, SourceConfig, TrainConfig

SMALLEST_VOCAB = 268
"""256 bytes and 12 special tokens."""


def check(recipe: Recipe) -> None:
    """Raise ConfigError for the first combination of a filled recipe that cannot be built."""
    _model(recipe)
    if recipe.lora and not recipe.init:
        raise ConfigError("[lora] adapts weights that are there, and this recipe starts from empty ones. Set init.")
    if recipe.tokenizer.vocab < SMALLEST_VOCAB:
        raise ConfigError(
            f"tokenizer.vocab is {recipe.tokenizer.vocab}; the 256 bytes and 12 special tokens alone take "
            f"{SMALLEST_VOCAB}. Set it to {SMALLEST_VOCAB} or more."
        )
    for name in ("pretrain", "context", "sft"):
        stage = getattr(recipe, name)
        if stage is not None:
            _stage(name, stage, recipe.model.context)
            if stage.mtp_loss and recipe.model.mtp is None:
                raise ConfigError(
                    f"{name}.mtp_loss is {stage.mtp_loss:g}, and the model has no head for it. Add [model.mtp] or "
                    "leave mtp_loss out."
                )
    for name, answers in (("preference", recipe.preference), ("rl", recipe.rl)):
        if answers is not None:
            _answers(name, answers, recipe)
    if recipe.model.moe is None:
        for name in ("pretrain", "context", "sft", "preference", "rl"):
            stage = getattr(recipe, name)
            for key in ("balance_rate", "balance_loss"):
                if stage is not None and getattr(stage, key):
                    raise ConfigError(
                        f"{name}.{key} is {getattr(stage, key):g}, and the model has no experts. Add [model.moe] or "
                        f"leave {key} out."
                    )
    if not recipe.corpus.sources:
        raise ConfigError("corpus.sources is empty. Add a [[corpus.sources]] table, or leave the key out.")
    for index, source in enumerate(recipe.corpus.sources):
        _source(index, source)
    twice = [name for name, n in Counter(s.name for s in recipe.corpus.sources).items() if n > 1]
    if twice:
        raise ConfigError(f"Two corpus sources are named {twice[0]!r}. Give each [[corpus.sources]] a name of its own.")
    judge = recipe.judge
    if judge.max_tokens > recipe.model.context:
        raise ConfigError(
            f"judge.max_tokens is {judge.max_tokens} and model.context {recipe.model.context}: an answer would not "
            "fit. Lower judge.max_tokens or raise model.context."
        )
    if judge.budget > judge.max_tokens:
        raise ConfigError(
            f"judge.budget ({judge.budget} tokens of thought) exceeds judge.max_tokens ({judge.max_tokens} in all). "
            "Lower it."
        )


def _model(recipe: Recipe) -> None:
    model = recipe.model
    if isinstance(model.window, tuple):
        if len(model.window) != model.layers:
            raise ConfigError(
                f"model.window lists {len(model.window)} numbers for {model.layers} layers. Give one each, 0 = global."
            )
    elif "L" in model.pattern and model.window is None:
        raise ConfigError(
            f"model.pattern {model.pattern!r} has local layers (L) but model.window is unset. "
            "Set model.window (EXAONE 4.0 uses 4096, K-EXAONE 128) or write the pattern as 'G'."
        )
    elif "L" not in model.pattern and model.window is not None:
        raise ConfigError(
            f"model.window is {model.window} but the pattern {model.pattern!r} has no local layer (L) to use it. "
            "Remove model.window or put an L in model.pattern."
        )
    if model.clamp and len(model.clamp) != model.layers:
        raise ConfigError(
            f"model.clamp lists {len(model.clamp)} numbers for {model.layers} layers. Give one a layer, 0 = none."
        )
    if (model.moe or model.clamp) and model.activation != "swiglu":
        raise ConfigError(f"model.moe and model.clamp need activation 'swiglu', not {model.activation!r}. Remove it.")
    if model.heads % model.kv_heads:
        raise ConfigError(
            f"model.heads ({model.heads}) is not a multiple of model.kv_heads ({model.kv_heads}). "
            f"Set kv_heads to a divisor of {model.heads}."
        )
    if model.head_dim % 2:
        raise ConfigError(f"model.head_dim is {model.head_dim}; rotary positions turn pairs: set an even number.")


def _stage(name: str, stage: TrainConfig, context: int) -> None:
    if stage.seq_len > context:
        raise ConfigError(
            f"{name}.seq_len ({stage.seq_len}) is longer than model.context ({context}). "
            "Raise model.context or lower it."
        )
    if stage.batch_tokens % stage.seq_len:
        whole = max(1, round(stage.batch_tokens / stage.seq_len)) * stage.seq_len
        raise ConfigError(
            f"{name}.batch_tokens ({stage.batch_tokens}) is not a multiple of {name}.seq_len ({stage.seq_len}). "
            f"Set it to {whole}, for instance."
        )
    if stage.batch_tokens > stage.tokens:
        raise ConfigError(
            f"{name}.tokens ({stage.tokens}) is less than one batch ({stage.batch_tokens}). "
            "Raise tokens or lower batch_tokens."
        )
    if stage.schedule == "wsd" and stage.warmup + stage.decay > 1:
        raise ConfigError(
            f"{name}.warmup ({stage.warmup:g}) and {name}.decay ({stage.decay:g}) are shares of the steps and exceed "
            "1 together. Lower one of them."
        )


def _answers(name: str, stage: AnswersConfig, recipe: Recipe) -> None:
    """A stage that learns from answers of its own."""
    if recipe.sft is None and recipe.init is None:
        raise ConfigError(
            f"[{name}] learns from the model's own answers, and nothing taught it to answer. Add [sft] or set init."
        )
    if all(source.kind != "tasks" for source in recipe.corpus.sources):
        raise ConfigError(f"[{name}] needs problems with graders. Add a [[corpus.sources]] of kind 'tasks'.")
    context = recipe.model.context
    if recipe.init is None and stage.seq_len < context:
        raise ConfigError(
            f"{name}.seq_len is {stage.seq_len}; a prompt with its answer may take all of model.context ({context}). "
            "Leave it out."
        )
    if stage.seq_len <= stage.max_tokens and recipe.init is not None:
        raise ConfigError(
            f"{name}.seq_len ({stage.seq_len}) holds a prompt and an answer of up to {name}.max_tokens "
            f"({stage.max_tokens}). Raise seq_len or lower max_tokens."
        )
    if stage.seq_len > context or stage.max_tokens > context:
        raise ConfigError(
            f"{name}.seq_len ({stage.seq_len}) and {name}.max_tokens ({stage.max_tokens}) must fit into model.context "
            f"({context}). Lower them or raise model.context."
        )
    if stage.budget >= stage.max_tokens:
        raise ConfigError(
            f"{name}.budget ({stage.budget} tokens of thought) leaves no room for an answer in {name}.max_tokens "
            f"({stage.max_tokens}). Lower it."
        )
    if isinstance(stage, RlConfig):
        with_kl = KL_IN_LOSS | KL_IN_REWARD
        if stage.kl_beta > 0 and stage.algorithm not in with_kl:
            raise ConfigError(
                f"rl.kl_beta is {stage.kl_beta:g}, and {stage.algorithm} has no KL term. Leave kl_beta out, or take "
                f"{', '.join(sorted(with_kl))}."
            )
        if stage.updates > stage.prompts:
            raise ConfigError(f"rl.updates ({stage.updates}) share {stage.prompts} prompts. Lower updates.")
        if stage.steps % stage.updates:
            raise ConfigError(f"rl.steps ({stage.steps}) is not a multiple of rl.updates ({stage.updates}).")


def _source(index: int, source: SourceConfig) -> None:
    where = f"corpus.sources.{index} ({source.name})"
    if source.kind == "text" and source.path is None:
        raise ConfigError(f"{where} is of kind 'text' and names no path. Set path to a file or folder.")
    if source.kind == "tasks" and source.path is not None:
        raise ConfigError(f"{where} is of kind 'tasks', which are generated, yet names a path. Set kind = 'text'.")
