"""Stages that learn: what they share, and `pretrain`, `context` and `sft`, which differ in their shards only."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dokja.errors import ConfigError, DataError
from dokja.ledger import chain
from dokja.ledger.hashing import sha256_json
from dokja.recipe.schema import Recipe
from dokja.road.context import Context, Walked
from dokja.road.sampling import write_samples
from dokja.road.shards import open_all
from dokja.road.speech import Speech, speech
from dokja.road.start import checkpoint, weights_sha256
from dokja.text.images import ImageConfig
from dokja.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from dokja.model.decoder import Decoder
    from dokja.train.compiled import Runner
    from dokja.train.loop import Objective, Source

ORDER = ("pretrain", "context", "sft", "preference", "rl")
"""Stages that leave weights."""
OBJECTIVE = {"pretrain": "language", "context": "language", "sft": "sft"}
WEIGHTS = "weights"
ADAPTER = "adapter"
"""With [lora]: the pairs as PEFT reads them, for the weights that the stage started from."""
EVAL_ROWS = 64
"""Rows of held-out text looked at while training; the judge reads all of it."""


@dataclass(frozen=True)
class Start:
    """What a learning stage begins with."""

    config: Any
    device: torch.device
    dtype: torch.dtype
    tokenizer: Tokenizer
    model: Decoder
    before: Path | None
    """folder of the weights it starts from"""
    twin: Decoder | None = None
    """with [lora], for stages that answer: an ordinary model that takes the merged weights for the engine"""


@dataclass(frozen=True)
class Lesson:
    """What a stage gives the loop; see `train.loop.Plan`."""

    steps: int
    objective: Objective
    source: Source
    rows: int
    identity: dict[str, str]
    evaluate: Callable[[Runner], dict[str, float]] | None = None
    boundary: int = 1
    frozen: tuple[str, ...] = ()
    mtp_loss: float = 0.0
    outputs: tuple[str, ...] = ()
    """files and folders the stage leaves besides weights, metrics and samples"""


def learned(recipe: Recipe, before: str | None = None) -> list[str]:
    """The learning stages of a recipe in order, all of them or those before stage `before`."""
    names = ORDER[: ORDER.index(before)] if before else ORDER
    return [n for n in names if getattr(recipe, n) is not None]


def answering(recipe: Recipe) -> list[str]:
    """The learning stages whose weights can answer: SFT and those after it, and those on answers of a checkpoint's."""
    able = recipe.sft or recipe.init
    return [n for n in learned(recipe) if ORDER.index(n) >= ORDER.index("sft")] if able else []


def weights_before(context: Context, name: str) -> Path | None:
    """Folder with the weights that stage `name` starts from; None for empty weights."""
    if earlier := learned(context.recipe, name):
        return context.stage(earlier[-1]) / WEIGHTS
    return checkpoint(context.recipe.init) if context.recipe.init else None


def write_weights(folder: Path, model: Any, spoken: Speech, recipe: Recipe, dtype: torch.dtype) -> None:
    """Weights in the release layout, so that engine, judge and transformers open any stage."""
    from dokja.model.families import export

    # One file, whatever its size: the next stage and the release name it by its hash.
    export(model.spec, dict(model.named_parameters()), folder, spoken.ids, dtype=dtype, shard_bytes=None)
    spoken.tokenizer.save(folder)
    if model.spec.vision:
        ImageConfig.of(model.spec.vision).write(folder)
    judge = recipe.judge
    generation = {
        **{f"{name}_token_id": token for name, token in spoken.ids.items()},
        "do_sample": judge.temperature > 0,
        "max_new_tokens": judge.max_tokens,
        **({"temperature": judge.temperature, "top_p": judge.top_p} if judge.temperature > 0 else {}),
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def learn(context: Context, folder: Path, name: str, lesson: Callable[[Context, Path, Start], Lesson]) -> Walked:
    """Walks learning stage `name`: the weights before it, the loop over what `lesson` gives, weights and samples."""
    import torch

    from dokja.model.decoder import Decoder
    from dokja.model.families import load_model
    from dokja.model.spec import ModelSpec
    from dokja.train import distributed, lora
    from dokja.train.loop import Plan, train

    recipe, config = context.recipe, getattr(context.recipe, name)
    device = distributed.start(pick_device(recipe))
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(device.type == "cpu")
    spoken = speech(context)
    tokenizer = spoken.tokenizer
    if tokenizer.foreign and name in ("preference", "rl"):
        raise ConfigError(
            f"[{name}] asks in our own chat format, and the checkpoint speaks {spoken.style.name}. Leave [{name}] out; "
            "pretrain, context and sft learn in its format."
        )
    before = weights_before(context, name)
    if before is None:
        spec = ModelSpec.from_dict({"vocab": tokenizer.vocab_size, **recipe.model.model_dump()})
        model = Decoder(spec).init_weights(recipe.seed)
    else:
        model = load_model(before, "auto" if recipe.lora else None)  # frozen weights need no fp32 masters
        model.spec = replace(model.spec, context=recipe.model.context)
    model.to(device)
    twin = copy.deepcopy(model).float() if recipe.lora and name in ("preference", "rl") else None
    start = Start(config, device, pick_dtype(config.precision, device), tokenizer, model, before, twin)
    given = lesson(context, folder, start)
    identity = {
        **given.identity,
        "tokenizer": tokenizer.sha256,
        "template": spoken.style.sha256,
        "start": weights_sha256(before) if before else f"seed {recipe.seed}",
    }
    if recipe.lora:
        lora.attach(model, recipe.lora, recipe.seed + ORDER.index(name))
    with context.progress(given.steps, name) as bar:
        plan = Plan(
            config,
            given.steps,
            given.objective,
            given.source,
            given.rows,
            folder,
            identity,
            evaluate=given.evaluate,
            say=context.say,
            progress=bar.update,
            log=lambda e: chain.append_once(context.run.path, {**e, "stage": name}, ("stage", "step", "files")),
            compile=config.compile,
            boundary=given.boundary,
            frozen=given.frozen,
            mtp_loss=0.0 if recipe.lora else given.mtp_loss,
            lora_rate=recipe.lora.lr if recipe.lora else 0.0,
        )
        spent = train(model, plan, device, start.dtype)
    last = name == learned(recipe)[-1]  # those in between keep what the next stage goes on from
    dtype = getattr(torch, recipe.release.dtype if last else "float32")
    adapters: list[str] = []
    if recipe.lora and before:
        lora.export_adapter(model, before, identity["start"], folder / ADAPTER, recipe.lora)
        lora.merge(model, dtype)
        adapters.append(ADAPTER)
    write_weights(folder / WEIGHTS, model, spoken, recipe, dtype)
    size_of = f"{model.spec.params / 1e6:.2f} M parameters"
    outputs = given.outputs
    del model, start, given, plan, twin  # the samples are written by the files just made; one model in memory will do
    write_samples(context, folder, name)
    cost = {
        "seconds": spent.seconds,
        "tokens": float(spent.tokens),
        "flops_6nd": spent.flops_6nd,
        "flops_attention": spent.flops_attention,
        **spent.extra,
    }
    rate = spent.tokens / max(spent.seconds, 1e-9)
    sentence = f"{size_of}, {spent.tokens / 1e6:.1f} M tokens, {rate / 1e3:.1f} k tokens/s"
    return Walked([WEIGHTS, "metrics.jsonl", "samples.jsonl", *outputs, *adapters], sentence, cost)


def walk(name: str) -> Callable[[Context, Path], Walked]:
    """The function that walks `pretrain`, `context` or `sft`."""

    def lesson(context: Context, folder: Path, start: Start) -> Lesson:
        from dokja.data.loader import Loader
        from dokja.train.loop import micro_rows
        from dokja.train.objectives import OBJECTIVES

        recipe, config, tokenizer = context.recipe, start.config, start.tokenizer
        sets = open_all(context.stage("shards") / ("sft" if name == "sft" else "pretrain"))
        if not sets:
            needs = "a source of kind 'tasks'" if name == "sft" else "a source"
            raise DataError(f"stage {name} has nothing to learn from: give the recipe {needs}.")
        weights = {s.name: s.weight for s in recipe.corpus.sources}
        loader = Loader(
            [(shards, weights[source]) for source, shards in sets.items()],
            config.seq_len,
            config.batch_tokens // config.seq_len,
            recipe.seed + ORDER.index(name),
        )
        size = np.array([len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)])
        held = open_all(context.stage("shards") / "heldout") if name != "sft" else {}
        return Lesson(
            config.steps,
            OBJECTIVES[OBJECTIVE[name]](size),
            loader,
            micro_rows(start.device, config.seq_len, config.batch_tokens),
            {"data": chain_sha(sets)},
            held_out(held, config, size) if held else None,
            frozen=() if any(shards.has_images for shards in sets.values()) else ("vision.",),
            mtp_loss=config.mtp_loss,
        )

    return lambda context, folder: learn(context, folder, name, lesson)


def chain_sha(sets: dict[str, Any]) -> str:
    """One hash for all shard sets of a stage."""
    return sha256_json({name: shards.sha256 for name, shards in sets.items()})


def held_out(sets: dict[str, Any], config: Any, token_bytes: np.ndarray) -> Callable[[Any], dict[str, float]]:
    """A function of the runner: bits per byte of the first rows of every held-out source."""
    from dokja.data.batch import sweep
    from dokja.train.bits import bits_per_byte

    def evaluate(runner: Any) -> dict[str, float]:
        out = {}
        for source, shards in sets.items():
            rows = max(1, EVAL_ROWS // runner.rows)
            batches = [b for b, _ in zip(sweep(shards, config.seq_len, runner.rows), range(rows), strict=False)]
            out[f"bits_per_byte/{source}"] = bits_per_byte(runner, batches, token_bytes)
        return out

    return evaluate


def pick_device(recipe: Recipe) -> Any:
    """torch device of a recipe; `auto` takes a GPU where there is one. ConfigError when `cuda` is asked for in vain."""
    import torch

    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("the recipe asks for device = 'cuda' and torch finds no GPU. Use --set device=cpu.")
    use_gpu = recipe.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_gpu else "cpu")


def pick_dtype(precision: str, device: Any) -> Any:
    """torch dtype of the matrix products; `auto` is bf16 where the machine has fast bf16."""
    import torch

    from dokja.train.optim import fast_bf16

    bf16 = precision == "bf16" or (precision == "auto" and fast_bf16(device))
    return torch.bfloat16 if bf16 else torch.float32
