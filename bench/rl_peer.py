"""TRL's half of rl_speed.py, for an environment that has trl; it needs nothing of dokja.

    python bench/rl_peer.py MODEL_FOLDER PROMPTS.json SETTINGS_JSON

Trains with GRPOTrainer and reports on its standard output, one JSON object a line: when it is ready, and then, after
each line that it reads, the seconds of one optimiser step, answers included.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


def reward(completions: list[str], **_: Any) -> list[float]:
    """Anything cheap that differs between answers."""
    return [text.count("1") / (len(text) + 1) for text in completions]


class Steps(TrainerCallback):
    """Waits for a line before a step and reports the step after it."""

    def __init__(self, out: Any):
        self.out, self.began = out, 0.0

    def say(self, **values: Any) -> None:
        """One line to whoever started us."""
        print(json.dumps(values), file=self.out, flush=True)

    def wait(self, control: Any) -> None:
        """Until the next step is wanted; no line means that none is."""
        if not sys.stdin.readline():
            control.should_training_stop = True
        self.began = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ready."""
        self.say(ready=True)
        self.wait(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A step is done, its update included."""
        self.say(seconds=time.perf_counter() - self.began)
        self.wait(control)


def main() -> None:
    """Reads the arguments and trains until standard input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no part of the report
    folder, prompts_file, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    torch.set_num_threads(settings["threads"])
    with open(prompts_file, encoding="utf-8") as file:
        prompts = json.load(file)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for prompt in prompts[:8]:
        assert tokenizer(prompt["text"])["input_ids"] == prompt["tokens"], "the prompts are not the same tokens"
    answers = len(prompts) * settings["group"]
    config = GRPOConfig(
        output_dir=os.path.join(folder, "trl"),
        use_cpu=True,
        bf16=settings["precision"] == "bf16 autocast",
        gradient_checkpointing=False,
        per_device_train_batch_size=settings["micro"],
        gradient_accumulation_steps=answers // settings["micro"],
        num_generations=settings["group"],
        max_completion_length=settings["new"],
        temperature=1.0,
        top_k=0,
        beta=0.0,
        cache_implementation=settings["cache"],
        max_steps=10_000,
        logging_steps=10_000,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=0,
    )
    dtype = torch.bfloat16 if settings["precision"] == "bf16 weights" else torch.float32
    GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa"),
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": prompt["text"]} for prompt in prompts]),
        processing_class=tokenizer,
        callbacks=[Steps(out)],
    ).train()


if __name__ == "__main__":
    main()
