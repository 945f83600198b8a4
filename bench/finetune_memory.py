"""Memory and speed of fine-tuning a 1.2B model (the shape of EXAONE 4.0 1.2B) on a CPU: all weights, and LoRA.

    python bench/finetune_memory.py [--steps 20] [--what full lora] [--threads 2] [--seq-len 256] [--batch 512]

Makes a checkpoint of random bf16 weights of that shape with a tokenizer of a few kilobytes of text, in a temporary
folder, and runs `dokja build recipes/finetune-1.2b.toml --stage sft` on it: all that a fine-tuning does, from reading
the checkpoint to checkpoints, exported weights and samples. Prints the largest resident memory of the process at the
end of the training loop and of the stage, and tokens per second. Takes 25 GB of disk, removed afterwards.

All weights are moved by Adafactor, as the recipe says: AdamW's moments would not fit beside weights and gradients in
24 GB, and Muon's orthogonalisation takes 55 TFLOP a step whatever the batch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPES = Path(__file__).parent.parent / "recipes"


def make_checkpoint(folder: Path) -> None:
    """An official folder with random weights; runs in a process of its own, whose memory does not count."""
    import torch

    from dokja.model.decoder import Decoder
    from dokja.model.families import export
    from dokja.model.spec import ModelSpec
    from dokja.recipe import load_recipe
    from dokja.text.tokenizer import train_tokenizer

    recipe = load_recipe(RECIPES / "shapes" / "4.0-1.2b.toml")
    spec = ModelSpec.from_dict({"vocab": recipe.tokenizer.vocab, **recipe.model.model_dump()})
    words = ("하나 둘 셋 넷 다섯 더하면 빼면 얼마", "one two three four five plus minus how many", "0123456789 + - = ?")
    train_tokenizer([w for w in words for _ in range(50)], 1000).save(folder)
    model = Decoder(spec).init_weights(0)
    export(spec, dict(model.named_parameters()), folder, {"bos": 1, "eos": 2, "pad": 0}, dtype=torch.bfloat16)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nRandom weights.\n")


def build(checkpoint: Path, runs: Path, kind: str, args: argparse.Namespace) -> None:
    """One fine-tuning, and its figures."""
    tokens = args.steps * args.batch
    sets = [
        f"init={checkpoint}", f"name={kind}", f"threads={args.threads}", f"sft.tokens={tokens}",
        f"sft.seq_len={args.seq_len}", f"sft.batch_tokens={args.batch}", "corpus.sources.0.problems=2000",
        "sft.checkpoint_every=1000", "sft.eval_every=1000", "device=cpu",
        *(["lora.rank=16"] if kind == "lora" else []),
    ]  # fmt: skip
    command = [sys.executable, "-m", "dokja", "build", str(RECIPES / "finetune-1.2b.toml"), "--runs", str(runs)]
    command += ["--stage", "sft", *(part for s in sets for part in ("--set", s))]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": str(args.threads)})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the build of {kind} failed")
    stage = runs / kind / "sft"
    cost = json.loads((stage / "manifest.json").read_text())["cost"]
    rows = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    rates = sorted(row["tokens_per_second"] for row in rows[1:] or rows)
    peaks = [f"{size / 1e9:.1f} GB" for size in (cost["peak_memory_bytes"], usage.ru_maxrss * 1024)]
    print(
        f"{kind}: {len(rows)} steps of {args.batch} tokens; peak memory {peaks[0]} in training, {peaks[1]} in the "
        f"whole stage; {rates[len(rates) // 2]:.1f} tokens/s (median of the steps after the first); loss "
        f"{rows[0]['loss']:.3f} to {rows[-1]['loss']:.3f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--what", nargs="+", choices=("full", "lora"), default=["full", "lora"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--batch", type=int, default=512, help="tokens of an optimiser step")
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.checkpoint:
        make_checkpoint(args.checkpoint)
        return
    with tempfile.TemporaryDirectory(prefix="dokja-finetune-") as top:
        checkpoint = Path(top) / "checkpoint"
        subprocess.run([sys.executable, __file__, "--checkpoint", str(checkpoint)], check=True)
        for kind in args.what:
            build(checkpoint, Path(top) / "runs", kind, args)
            shutil.rmtree(Path(top) / "runs")


if __name__ == "__main__":
    main()
