"""The training loop: one for every objective.

A step is a pure function of (weights, optimiser state, source state, step): batches come by number, from stored
documents or from answers that these very weights write; nothing is drawn from a global generator, and sums have a
fixed order. So a run that is killed anywhere and started again ends bit for bit where an uninterrupted one ends (on the
same machine, threads and versions).
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dokja.data.batch import Batch
from dokja.errors import CheckpointError, DokjaError
from dokja.ledger.cost import flops_6nd, peak_memory_bytes
from dokja.ledger.hashing import sha256_json
from dokja.ledger.metrics import TIMING_KEYS, MetricsLog, read_metrics
from dokja.model.decoder import Decoder
from dokja.model.vision import training_flops
from dokja.train import checkpoint, distributed, lora
from dokja.train.balance import Balance
from dokja.train.compiled import Runner, Weights
from dokja.train.optim import Optimizer
from dokja.train.schedule import SCHEDULES

MICRO_TOKENS = {"cpu": 8192, "cuda": 65536}
"""Tokens of one forward and backward pass; a batch is a whole number of them."""


class Interrupted(DokjaError):
    """SIGTERM or Ctrl-C: a checkpoint was written first."""


class Objective(Protocol):
    """What is learned, as a weight for every target token: the loop minimises -sum(weight * log p)."""

    def weights(self, batch: Any, total: int) -> Callable[[slice], Weights]:
        """Weights of a batch with `total` targets over all processes, as a function of its rows."""
        ...

    def metrics(self, nats: float, batch: Any) -> dict[str, Any]:
        """What there is to report of a step besides the loss, which may be given another meaning here."""
        ...


class Source(Protocol):
    """Where batches come from, by step. Its state goes into every checkpoint."""

    def open(self, step: int, rank: int = 0, world: int = 1) -> AbstractContextManager[Iterator[Batch]]:
        """The batches from `step` on."""
        ...

    def fingerprint(self) -> str:
        """Hash of what decides the batches; a checkpoint made with another is refused."""
        ...

    def state(self) -> dict[str, Any]:
        """What was learned from the batches so far, as JSON."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        ...


@dataclass(frozen=True)
class Plan:
    """Everything the loop needs to know; `config` is the recipe's section (rates, schedule)."""

    config: Any
    steps: int
    objective: Objective
    source: Source
    rows: int
    """Rows of a micro batch; a batch is a whole number of them (see `micro_rows`)."""
    folder: Path
    identity: Mapping[str, str]
    """Hashes of data, tokenizer, template and spec: a checkpoint made with others is refused."""
    evaluate: Callable[[Runner], dict[str, float]] | None = None
    say: Callable[[str], None] = print
    progress: Callable[[int, str], None] = lambda step, text: None
    log: Callable[[dict[str, Any]], object] = lambda entry: None
    """Called with every checkpoint written, for the ledger."""
    compile: bool = True
    boundary: int = 1
    """Checkpoints are written after a multiple of this many steps (all updates on one round of rollouts)."""
    frozen: tuple[str, ...] = ()
    """Parameters with one of these words in their name keep their values."""
    mtp_loss: float = 0.0
    """Weight of the loss two tokens ahead; without it a multi-token head keeps its values as well."""
    lora_rate: float = 0.0
    """Peak rate of the pairs of a model that has them (`train.lora`): they learn and are kept, and nothing else."""


@dataclass
class Spent:
    """What training has cost so far, over all attempts."""

    tokens: int = 0
    flops_6nd: float = 0.0
    flops_attention: float = 0.0
    seconds: float = 0.0
    targets: int = 0
    extra: dict[str, float] = field(default_factory=dict)


def train(model: Decoder, plan: Plan, device: torch.device, dtype: torch.dtype) -> Spent:
    """Trains `model` in place for `plan.steps` steps, resuming from the newest undamaged checkpoint of `plan.folder`.

    Leaves checkpoints and metrics.jsonl in the folder; with `ema` the model ends as the average. Raises Interrupted
    after SIGTERM, CheckpointError for a checkpoint made from other data, DokjaError for a loss that is not finite.
    """
    c, rank, world = plan.config, distributed.rank(), distributed.world()
    model.to(device)
    frozen = plan.frozen if plan.mtp_loss else (*plan.frozen, "mtp.")
    for name, p in model.named_parameters():
        if any(word in name for word in frozen):
            p.requires_grad_(False)
    rates = {k: getattr(c, k) for k in ("lr_matrix", "lr_embed", "lr_head", "lr_other")} | {"lr_lora": plan.lora_rate}
    kept, pairs = lora.state_of(model), lora.adapted(model)
    optimizer = Optimizer(model, rates, c.weight_decay, c.optimizer)
    ema = {n: p.detach().clone() for n, p in kept.items()} if c.ema else None
    identity = {**plan.identity, "loader": plan.source.fingerprint(), "spec": sha256_json(model.spec.to_dict())}
    spent, start = Spent(), 0
    folder = plan.folder / "checkpoints"
    if rank == 0:
        checkpoint.clean(folder, plan.say)
    distributed.wait()
    found = checkpoint.load_latest(folder)
    if found:
        groups, state = found
        refuse_other(identity, state["identity"])
        with torch.no_grad():
            for n, p in kept.items():
                p.copy_(groups["model"][n])
                if ema is not None:
                    ema[n].copy_(groups["ema"][n])
        optimizer.load(groups["optimizer"])
        start, spent = state["step"], Spent(**state["spent"])
        plan.source.load(state["source"])
        made = checkpoint.hashes(folder, start)
        plan.say(f"resuming at step {start} of {plan.steps}.")
    metrics = MetricsLog(plan.folder / "metrics.jsonl") if rank == 0 else None
    if metrics:
        metrics.truncate_after(start)
        if found:  # a kill may have come between the checkpoint and its line in the ledger
            plan.log(ledger_entry(plan.folder, start, made))
    runner = Runner(model, dtype, plan.compile, plan.rows, plan.mtp_loss)
    runner.balance = Balance.of(model, c.balance_rate, c.balance_loss)

    def save(step: int) -> None:
        if rank:
            return
        groups: dict[str, Mapping[str, Tensor]] = {"model": kept, "optimizer": optimizer.state()}
        if ema is not None:
            groups["ema"] = ema
        state = {"identity": identity, "spent": vars(spent), "source": plan.source.state()}
        written = checkpoint.save(folder, step, groups, state, c.keep)
        plan.log(ledger_entry(plan.folder, step, written))

    schedule, stop = SCHEDULES[c.schedule], StopSignal()
    began = time.monotonic()
    seconds_before = spent.seconds
    with stop, plan.source.open(start, rank, world) as batches:
        for step in range(start, plan.steps):
            t0 = time.monotonic()
            batch = next(batches)
            nats, targets, gradient_norm = step_gradients(runner, plan, batch, c.clip)
            loss = nats / max(targets, 1)
            if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
                keep_batch(plan.folder / f"bad_batch{rank or ''}.npz", step, batch)
                raise DokjaError(
                    f"the loss of step {step} is {loss} with gradient norm {gradient_norm}: training stopped before "
                    f"the update. The batch is in {plan.folder / 'bad_batch.npz'}; the last checkpoint is untouched. "
                    "Lower the learning rates (lr_matrix, lr_embed) or look at the data."
                )
            factor = schedule(step, plan.steps, c.warmup, c.decay, c.final_lr)
            if targets:  # a round of answers may teach nothing: no group of mixed success
                optimizer.step(factor)
                if runner.balance:
                    runner.balance.move()
            model.zero_grad(set_to_none=True)
            if ema is not None:
                now = [p.detach() for p in kept.values()]
                torch._foreach_lerp_(list(ema.values()), now, 1 - c.ema)
            tokens = distributed.total(batch.tokens)
            spent.tokens += tokens
            spent.targets += targets
            ahead = plan.mtp_loss > 0
            work = flops_6nd(model.spec.trained_params(ahead), tokens)
            spent.flops_6nd += work * 2 / 3 if pairs else work  # frozen matrices have no gradient to compute
            lengths = document_lengths(batch.docs_BL)
            spent.flops_attention += distributed.total(model.spec.attention_flops(lengths, ahead))
            if model.spec.vision:
                shown = [image for row in batch.images or () for image in row]
                matrices, attention = training_flops(shown, model.spec.vision, model.spec.width)
                spent.flops_6nd += distributed.total(matrices)
                spent.flops_attention += distributed.total(attention)
            took = time.monotonic() - t0
            spent.seconds = seconds_before + time.monotonic() - began
            done = step + 1
            values: dict[str, Any] = {
                "loss": loss,
                "lr": (plan.lora_rate if pairs else c.lr_matrix) * factor,
                "grad_norm": gradient_norm,
                "tokens": spent.tokens,
                "targets": targets,
                **runner.report(),
                **plan.objective.metrics(nats, batch),
            }
            if plan.evaluate and (done % c.eval_every == 0 or done == plan.steps):
                values |= plan.evaluate(runner)
            if metrics:
                metrics.write(done, **values, seconds=round(took, 4), tokens_per_second=round(tokens / took, 1))
            plan.progress(done, f"loss {loss:.3f}  {tokens / took / 1e3:.1f}k tok/s")
            stopping = distributed.total(int(stop.asked)) > 0  # a signal may reach the processes in different steps
            whole = done % plan.boundary == 0 or done == plan.steps
            due = done % (c.checkpoint_every * plan.boundary) == 0 or done == plan.steps
            if whole and (due or stopping):
                save(done)
            if whole and stopping and done < plan.steps:
                raise Interrupted(f"stopped by signal at step {done} of {plan.steps}; run the same command to go on.")
    spent.extra["peak_memory_bytes"] = float(peak_memory_bytes())
    if ema is not None:
        with torch.no_grad():
            for n, p in kept.items():
                p.copy_(ema[n])
    return spent


def step_gradients(runner: Runner, plan: Plan, batch: Any, clip: float) -> tuple[float, int, float]:
    """Forward and backward of one batch in micro batches -> summed loss in nats, targets, norm before clipping.

    Weights are normalised by the targets of the whole batch over all processes, so that k micro batches, or k
    processes, add up to the gradient of one.
    """
    targets = distributed.total(batch.targets)
    weights = plan.objective.weights(batch, targets)
    nats = 0.0
    if runner.balance:
        runner.balance.begin(distributed.total(batch.tokens))
    for at in range(0, batch.tokens_BL.shape[0], runner.rows):
        rows = slice(at, at + runner.rows)
        arrays = (batch.tokens_BL[rows], batch.docs_BL[rows], batch.targets_BL[rows])
        nats += runner.backward(*arrays, weights(rows), batch.images[rows] if batch.images else None)
    parameters = [p for p in runner.model.parameters() if p.requires_grad]
    for p in parameters:
        if p.grad is None:  # a vision tower whose batch shows no image, here or in every process
            p.grad = torch.zeros_like(p)
    distributed.sum_gradients(parameters)
    if runner.balance:
        runner.balance.end()
    nats = distributed.total(nats)
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip if clip else math.inf, foreach=True)
    return nats, targets, float(norm)


def micro_rows(device: torch.device, seq_len: int, batch_tokens: int = 0) -> int:
    """Rows of one forward and backward pass: what the device takes well, and no more than the batch has."""
    tokens = MICRO_TOKENS[device.type]
    return max(1, (min(tokens, batch_tokens) if batch_tokens else tokens) // seq_len)


def document_lengths(docs_BL: np.ndarray) -> np.ndarray:
    """Tokens of every document (piece) of a batch; padding is none."""
    rows = np.arange(len(docs_BL))[:, None]
    numbers = docs_BL.astype(np.int64) + rows * (int(docs_BL.max()) + 1)
    return np.unique(numbers[docs_BL > 0], return_counts=True)[1]


def refuse_other(now: Mapping[str, str], then: Mapping[str, str]) -> None:
    """CheckpointError naming what changed since the checkpoint was made."""
    changed = sorted(k for k in {*now, *then} if now.get(k) != then.get(k))
    if changed:
        raise CheckpointError(
            f"the checkpoint was made with another {', '.join(changed)}. Put it back as it was, or start this stage "
            "anew with --rebuild."
        )


def ledger_entry(folder: Path, step: int, files: Mapping[str, str]) -> dict[str, Any]:
    """A checkpoint's line in the ledger: its tensors, and the metrics up to it without their clock times.

    state.json is left out: it holds the seconds spent.
    """
    rows = [{k: v for k, v in row.items() if k not in TIMING_KEYS} for row in read_metrics(folder / "metrics.jsonl")]
    tensors = {name: sha for name, sha in files.items() if name.endswith(".safetensors")}
    return {"kind": "checkpoint", "step": step, "files": tensors, "metrics": sha256_json(rows)}


def keep_batch(path: Path, step: int, batch: Any) -> None:
    """Stores the batch of a failed step for a look afterwards."""
    np.savez(path, step=step, tokens=batch.tokens_BL, targets=batch.targets_BL, docs=batch.docs_BL)


class StopSignal:
    """While active, SIGTERM and SIGINT only set `asked`; the loop saves and leaves after the running step."""

    def __init__(self) -> None:
        self.asked = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        def ask(number: int, frame: Any) -> None:
            if self.asked and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.asked = True

        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, ask)
        except ValueError:  # not the main thread: the caller keeps its own handlers
            pass
        return self

    def __exit__(self, *error: object) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)
