"""Stage `release`: one folder that others load, with what there is to say and to check about it.

release/  config.json  model.safetensors  tokenizer.json  tokenizer_config.json  chat_template.jinja
          generation_config.json  README.md (model card)  records.jsonl  summary.json  ledger.jsonl
"""

from __future__ import annotations

import shutil
from pathlib import Path

from dokja.ledger import chain
from dokja.ledger.hashing import sha256_file
from dokja.proof.card import model_card
from dokja.proof.licence import read_licence, text_for_release
from dokja.proof.report_read import read_run
from dokja.road.context import Context, Walked
from dokja.road.start import checkpoint
from dokja.road.training import WEIGHTS, learned


def walk(context: Context, folder: Path) -> Walked:
    """Copies the last stage's weights and the judge's records, writes the card; the report is written after it."""
    weights = context.stage(learned(context.recipe)[-1]) / WEIGHTS
    judged = context.stage("judge")
    told = ("records.jsonl", "summary.json", "stages.json", "texts.json")
    files = [*sorted(weights.iterdir()), *(judged / name for name in told)]
    files.append(context.run.path / chain.FILE_NAME)
    if context.recipe.init:
        folder_of = checkpoint(context.recipe.init)
        if (text := text_for_release(folder_of, read_licence(folder_of))) is not None:
            files.append(text)
    outputs = []
    for file in files:
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
            outputs.append(file.name)
    (folder / "README.md").write_text(model_card(read_run(context.run.path)), encoding="utf-8")
    outputs.append("README.md")
    sha = sha256_file(folder / "model.safetensors")
    return Walked(outputs, f"{folder} ({sha[:12]}…)")
