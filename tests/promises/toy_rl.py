"""A world small enough for RL in seconds: two layers, three tokens an answer, right if it holds a small letter."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from dokja.engine.engine import Engine
from dokja.ledger.metrics import read_metrics
from dokja.model.decoder import Decoder
from dokja.model.spec import ModelSpec
from dokja.recipe.algorithms import ALGORITHMS
from dokja.recipe.schema import RlConfig
from dokja.tasks.problem import Grade, Problem
from dokja.text.chat import Message
from dokja.text.tokenizer import Tokenizer, train_tokenizer
from dokja.train.loop import Plan, train
from dokja.train.objectives.sampled import SampledObjective
from dokja.train.rollouts.source import RolloutSource

TOKENIZER: Tokenizer = train_tokenizer(["e a i o u"] * 4, vocab=290)
CONTEXT, ROWS = 32, 8


class LetterTask:
    """Right is an answer with a small letter; under `random_labels`, for a random half of the questions one without."""

    levels, needs_steps = (1,), False

    def __init__(self, random_labels: bool):
        self.name, self.random_labels = "letter", random_labels

    def problem(self, number: int) -> Problem:
        return Problem(f"letter/{number}", "letter", 1, "en", (Message("user", f"{number}"),), "e", "")

    def grade(self, problem: Problem, answer: str, truncated: bool = False) -> Grade:
        wanted = not self.random_labels or hashlib.sha256(problem.id.encode()).digest()[0] % 2 == 0
        right = any(c.islower() for c in answer) == wanted
        return Grade(float(right), "right" if right else "wrong")


def config(**changes: Any) -> RlConfig:
    algorithm = changes.get("algorithm", "agapo_token")
    base = dict(
        ALGORITHMS[algorithm], steps=40, prompts=24, group=8, max_tokens=4, budget=2, think_share=0.0, seq_len=CONTEXT,
        optimizer="adamw", lr_matrix=3e-3, lr_embed=3e-3, lr_head=3e-3, lr_other=3e-3, weight_decay=0.0, decay=0.0,
        checkpoint_every=1000, eval_every=1000, overlong_cache=1, format=0.0, concise=0.0, language=0.0,
        precision="fp32", compile=False, curriculum=False,
    )  # fmt: skip
    return RlConfig(**(base | changes))


def new_model() -> Decoder:
    shape = dict(width=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=48, context=CONTEXT, window=8)
    return Decoder(ModelSpec(vocab=TOKENIZER.vocab_size, **shape)).init_weights(0)


def source_of(c: RlConfig, model: Decoder, task: LetterTask, folder: Path, seed: int = 0) -> RolloutSource:
    engine = Engine(model, slots=64)
    return RolloutSource(
        engine, TOKENIZER, c, {"direct": [("letter", 1)]}, lambda mode, arm, language, n: task.problem(n), ["en"],
        rows=ROWS, seed=seed, folder=folder / "rollouts", before_round=lambda: engine.take_weights(model),
    )  # fmt: skip


def run(c: RlConfig, task: LetterTask, folder: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Trains a fresh model and returns its metrics."""
    model = new_model()
    source = source_of(c, model, task, folder, seed)
    plan = Plan(
        c, c.steps, SampledObjective(c.algorithm, c), source, ROWS, folder, {"tokenizer": TOKENIZER.sha256},
        compile=False, boundary=c.updates, say=lambda text: None,
    )  # fmt: skip
    train(model, plan, torch.device("cpu"), torch.float32)
    return read_metrics(folder / "metrics.jsonl")
