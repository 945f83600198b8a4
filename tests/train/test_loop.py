"""The loop on a model of a few thousand parameters. Run as a script it is one process of the gloo test."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dokja.data.loader import Loader
from dokja.data.shards import ShardSet, ShardWriter
from dokja.errors import CheckpointError, DokjaError
from dokja.ledger.metrics import TIMING_KEYS, read_metrics
from dokja.model.decoder import Decoder
from dokja.model.spec import ModelSpec, MoeSpec
from dokja.recipe.schema import TrainConfig
from dokja.train import checkpoint, distributed, loop
from dokja.train.compiled import Runner
from dokja.train.loop import Interrupted, Plan, Spent, step_gradients, train
from dokja.train.objectives import Language

VOCAB, SEQ, ROWS, STEPS = 48, 32, 8, 12
CPU = torch.device("cpu")


class Killed(Exception):
    """Stands in for SIGKILL: raised by `progress`, after the update and before the checkpoint."""


@pytest.fixture(autouse=True)
def as_the_trainer_does():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def write_shards(folder, seed=0):
    rng = np.random.default_rng(seed)
    with ShardWriter(folder, VOCAB) as writer:
        for _ in range(300):
            start, length = rng.integers(VOCAB), rng.integers(5, 60)
            writer.add((start + np.arange(length)) % VOCAB)
    return ShardSet.open(folder)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards") / "count")


def config(**changes):
    base = dict(
        tokens=STEPS * ROWS * SEQ, seq_len=SEQ, batch_tokens=ROWS * SEQ, optimizer="muon", weight_decay=0.1,
        lr_matrix=0.02, lr_embed=0.02, lr_head=0.01,
        lr_other=0.01, decay=0.3, checkpoint_every=4, eval_every=5, keep=2,
    )  # fmt: skip
    return TrainConfig(**(base | changes))


EXPERTS = {"norm": "pre", "moe": MoeSpec(experts=4, active=2, ffn=16)}


def new_model(**shape):
    sizes = dict(vocab=VOCAB, width=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=48, context=SEQ, window=8)
    spec = ModelSpec(**(sizes | shape))
    return Decoder(spec).init_weights(0)


def run(folder, shards, *, said=None, identity=None, shape=None, **options):
    """Trains a fresh model in `folder`, or goes on where the folder stands; returns (model, spent)."""
    c = config(**options.pop("config", {}))
    model = new_model(**(shape or {}))
    loader = Loader([(shards, 1.0)], SEQ, ROWS, 0)
    plan = Plan(
        c, c.steps, Language(np.ones(VOCAB, dtype=np.int64)), loader, ROWS, Path(folder),
        identity or {"tokenizer": "t"},
        say=(said if said is not None else []).append, compile=False, **options,
    )  # fmt: skip
    return model, train(model, plan, CPU, torch.float32)


def stop_at(step, how=Killed):
    def progress(done, text):
        if done == step:
            raise how

    return progress


def lines(folder):
    rows = read_metrics(Path(folder) / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in TIMING_KEYS} for row in rows]


def tensors(folder, step=STEPS):
    """Every tensor of a checkpoint, by file and name."""
    files = sorted((Path(folder) / "checkpoints" / f"step_{step:08d}").glob("*.safetensors"))
    return {(file.name, name): t for file in files for name, t in load_file(file).items()}


def assert_equal_runs(a, b):
    """Weights, optimiser state, averages and metrics are the same bits."""
    one, two = tensors(a), tensors(b)
    assert one.keys() == two.keys() and {file for file, _ in one} >= {"model.safetensors", "optimizer.safetensors"}
    assert [key for key in one if not torch.equal(one[key], two[key])] == []
    assert lines(a) == lines(b) and len(lines(a)) == STEPS


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """A run that nothing disturbed."""
    torch.use_deterministic_algorithms(True)
    folder = tmp_path_factory.mktemp("whole")
    run(folder, shards)
    return folder


def test_it_learns_to_count(whole):
    losses = [row["loss"] for row in lines(whole)]
    assert losses[0] == pytest.approx(np.log(VOCAB), rel=1e-4)  # the output matrix begins at zero
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_micro_batches_add_up_to_the_gradient_of_one_batch(shards, rows):
    loader = Loader([(shards, 1.0)], SEQ, ROWS, 0)
    plan = Plan(config(), STEPS, Language(np.ones(VOCAB, dtype=np.int64)), loader, ROWS, Path(), {})
    batch, found = loader.batch(0), []
    for size in (ROWS, rows):
        model = new_model()
        with torch.no_grad():
            model.head.normal_(generator=torch.Generator().manual_seed(1))
        nats, targets, norm = step_gradients(Runner(model, torch.float32, False, size), plan, batch, clip=0.0)
        found.append((nats, norm, [p.grad for p in model.parameters()]))
        assert targets == batch.targets
    (nats_a, norm_a, grads_a), (nats_b, norm_b, grads_b) = found
    assert nats_a == pytest.approx(nats_b, rel=1e-6) and norm_a == pytest.approx(norm_b, rel=1e-5)
    for a, b in zip(grads_a, grads_b, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_gradient_is_clipped_to_its_norm_and_the_norm_before_is_told(shards):
    loader = Loader([(shards, 1.0)], SEQ, ROWS, 0)
    plan = Plan(config(), STEPS, Language(np.ones(VOCAB, dtype=np.int64)), loader, ROWS, Path(), {})
    model = new_model()
    _, _, before = step_gradients(Runner(model, torch.float32, False, ROWS), plan, loader.batch(0), clip=1e-3)
    after = torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()
    assert before > 1e-2 and after == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("step", [3, 6, 8])
def test_killed_and_started_again_it_ends_bit_for_bit_the_same(shards, tmp_path, step, ema):
    changes = {"ema": ema}
    expected, _ = run(tmp_path / "whole", shards, config=changes)
    with pytest.raises(Killed):
        run(tmp_path / "cut", shards, config=changes, progress=stop_at(step))
    assert len(lines(tmp_path / "cut")) == step  # written, and to be dropped where no checkpoint has seen them
    model, spent = run(tmp_path / "cut", shards, config=changes)
    assert_equal_runs(tmp_path / "whole", tmp_path / "cut")
    assert all(torch.equal(a, b) for a, b in zip(expected.parameters(), model.parameters(), strict=True))
    assert spent.targets == sum(row["targets"] for row in lines(tmp_path / "cut"))


@pytest.mark.parametrize("step", [3, 6])
def test_with_experts_it_ends_bit_for_bit_the_same_too_and_its_biases_have_moved(shards, tmp_path, step):
    options = {"shape": EXPERTS, "config": {"balance_rate": 0.01, "balance_loss": 0.001}}
    run(tmp_path / "whole", shards, **options)
    with pytest.raises(Killed):
        run(tmp_path / "cut", shards, progress=stop_at(step), **options)
    run(tmp_path / "cut", shards, **options)
    assert_equal_runs(tmp_path / "whole", tmp_path / "cut")
    bias = tensors(tmp_path / "cut")["model.safetensors", "layers.1.moe.router_bias"]
    assert bias.abs().max() > 0.01
    assert all(row["expert_load_worst"] >= row["expert_load_mean"] >= 1 for row in lines(tmp_path / "cut"))


def test_a_frozen_router_keeps_weights_and_biases_while_the_experts_learn(shards, tmp_path):
    before = {n: p.detach().clone() for n, p in new_model(**EXPERTS).named_parameters()}
    changes = {"balance_rate": 0.01, "balance_loss": 0.1}
    model, _ = run(tmp_path, shards, shape=EXPERTS, config=changes, frozen=("router",))
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == ("router" in name), name


def test_with_averaging_the_model_ends_as_the_average(shards, tmp_path):
    model, _ = run(tmp_path, shards, config={"ema": 0.9})
    saved = tensors(tmp_path)
    for name, p in model.named_parameters():
        assert torch.equal(p.detach(), saved["ema.safetensors", name])
    assert not torch.equal(model.embed.detach(), saved["model.safetensors", "embed"])


def test_started_again_after_its_end_it_does_nothing_and_gives_the_same(shards, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "done")
    model, spent = run(tmp_path / "done", shards)
    assert_equal_runs(whole, tmp_path / "done")
    assert torch.equal(model.embed.detach(), tensors(whole)["model.safetensors", "embed"])
    assert spent.tokens == lines(whole)[-1]["tokens"]


@pytest.mark.parametrize("changed", ["shards", "tokenizer"])
def test_a_checkpoint_of_other_data_is_refused_with_a_sentence(shards, tmp_path, changed):
    with pytest.raises(Killed):
        run(tmp_path / "run", shards, progress=stop_at(6))
    other = write_shards(tmp_path / "other", seed=1) if changed == "shards" else shards
    identity = {"tokenizer": "another"} if changed == "tokenizer" else None
    named = "loader" if changed == "shards" else "tokenizer"
    with pytest.raises(CheckpointError, match=rf"another {named}\b.*--rebuild"):
        run(tmp_path / "run", other, identity=identity)
    run(tmp_path / "run", shards)  # and nothing was lost


def poison(monkeypatch, step):
    """The weights become infinite before this step's forward pass."""
    honest, seen = loop.step_gradients, []

    def poisoned(runner, plan, batch, clip):
        seen.append(batch)
        if len(seen) == step:
            with torch.no_grad():
                runner.model.norm.fill_(float("inf"))
        return honest(runner, plan, batch, clip)

    monkeypatch.setattr(loop, "step_gradients", poisoned)
    return seen


def test_a_loss_that_is_not_finite_stops_keeps_the_batch_and_the_checkpoint(shards, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as m:
        seen = poison(m, step=7)
        with pytest.raises(DokjaError, match=r"bad_batch\.npz"):
            run(tmp_path, shards)
    kept = np.load(tmp_path / "bad_batch.npz")
    assert kept["step"] == 6
    for name, array in (("tokens", seen[-1].tokens_BL), ("targets", seen[-1].targets_BL), ("docs", seen[-1].docs_BL)):
        assert np.array_equal(kept[name], array)
    assert checkpoint.complete_steps(tmp_path / "checkpoints") == [4]
    assert len(lines(tmp_path)) == 6
    run(tmp_path, shards)  # the cause mended, the run ends as if nothing had been
    assert_equal_runs(whole, tmp_path)


def test_rates_beyond_reason_end_in_that_sentence_too(shards, tmp_path):
    with pytest.raises(DokjaError, match=r"is (nan|inf) with gradient norm"):
        run(tmp_path, shards, config={"lr_matrix": 1e38, "weight_decay": 0.0})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_says_so_and_nothing_is_lost(shards, whole, tmp_path, number):
    def progress(done, text):
        if done == 6:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="step 6 of 12"):
        run(tmp_path, shards, progress=progress)
    assert signal.getsignal(number) is before
    assert checkpoint.complete_steps(tmp_path / "checkpoints") == [4, 6]
    said = []
    run(tmp_path, shards, said=said)
    assert any("resuming at step 6 of 12" in sentence for sentence in said)
    assert_equal_runs(whole, tmp_path)


def test_a_signal_during_the_last_step_is_no_interruption(shards, tmp_path):
    def progress(done, text):
        if done == STEPS:
            os.kill(os.getpid(), signal.SIGTERM)

    run(tmp_path, shards, progress=progress)
    assert checkpoint.complete_steps(tmp_path / "checkpoints")[-1] == STEPS


def flip_a_byte(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip_a_byte(folder / "model.safetensors"),
        lambda folder: flip_a_byte(folder / "optimizer.safetensors"),
        lambda folder: os.truncate(folder / "optimizer.safetensors", 100),
        lambda folder: (folder / "state.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text('{"step": 8, "fi'),
    ],
    ids=["altered", "altered optimiser", "truncated", "missing", "torn manifest"],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(shards, whole, tmp_path, damage):
    with pytest.raises(Killed):
        run(tmp_path, shards, progress=stop_at(10))
    damage(tmp_path / "checkpoints" / "step_00000008")
    said = []
    run(tmp_path, shards, said=said)
    assert any("step_00000008" in s and "Falling back" in s for s in said)
    assert any("resuming at step 4" in s for s in said)
    assert_equal_runs(whole, tmp_path)


def test_a_checkpoint_cut_off_while_it_was_written_is_removed_and_said(shards, whole, tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, shards, progress=stop_at(6))
    partial = tmp_path / "checkpoints" / "step_00000008.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half")
    said = []
    run(tmp_path, shards, said=said)
    assert any("step_00000008.partial was cut off" in s for s in said) and not partial.exists()
    assert_equal_runs(whole, tmp_path)


@pytest.mark.parametrize("full_at", ["model.safetensors", "optimizer.safetensors"])
def test_a_full_disk_leaves_the_earlier_checkpoint_and_no_partial(shards, whole, tmp_path, monkeypatch, full_at):
    def save_on_a_full_disk(tensors, path):
        if path.parent.name == "step_00000008.partial" and path.name == full_at:
            path.write_bytes(b"what still fitted")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_file(tensors, path)

    with monkeypatch.context() as m:
        m.setattr(checkpoint, "save_file", save_on_a_full_disk)
        with pytest.raises(CheckpointError, match=r"disk is full.*checkpoint of step 4 is untouched"):
            run(tmp_path, shards)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_00000004"]
    run(tmp_path, shards)  # room was made
    assert_equal_runs(whole, tmp_path)


def test_only_the_newest_checkpoints_are_kept(shards, tmp_path):
    run(tmp_path, shards, config={"checkpoint_every": 2, "keep": 3})
    assert checkpoint.complete_steps(tmp_path / "checkpoints") == [8, 10, 12]


def test_the_ledger_hears_the_same_of_every_checkpoint_however_often_the_run_was_cut(shards, tmp_path):
    whole, cut = [], []
    run(tmp_path / "whole", shards, log=whole.append)
    assert [e["step"] for e in whole] == [4, 8, 12]
    assert all(e["files"].keys() == {"model.safetensors", "optimizer.safetensors"} for e in whole)
    for step in (6, 8):
        with pytest.raises(Killed):
            run(tmp_path / "cut", shards, log=cut.append, progress=stop_at(step))
    run(tmp_path / "cut", shards, log=cut.append)
    assert [e["step"] for e in cut] == [4, 4, 4, 8, 12]  # told again on going on: a kill may have swallowed the line
    assert {e["step"]: e for e in cut} == {e["step"]: e for e in whole}
    assert all(cut.count(e) == sum(c["step"] == e["step"] for c in cut) for e in whole)


def test_held_out_figures_are_asked_for_on_time_and_written(shards, tmp_path):
    run(tmp_path, shards, evaluate=lambda runner: {"held": 1.5})
    assert [row["step"] for row in lines(tmp_path) if "held" in row] == [5, 10, 12]


def test_costs_are_counted_over_all_attempts(shards, whole, tmp_path):
    with pytest.raises(Killed):
        run(tmp_path / "cut", shards, progress=stop_at(9))
    _, spent = run(tmp_path / "cut", shards)
    _, once = run(tmp_path / "whole", shards)
    assert isinstance(spent, Spent)
    for key in ("tokens", "targets", "flops_6nd", "flops_attention"):
        assert getattr(spent, key) == getattr(once, key) > 0
    assert spent.tokens == lines(whole)[-1]["tokens"] and spent.seconds > 0


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def three_steps(folder, shards, experts):
    changes = {"tokens": 3 * ROWS * SEQ, "checkpoint_every": 1, "keep": 3}
    balance = {"balance_rate": 0.01, "balance_loss": 0.01} if experts else {}
    run(folder, shards, shape=EXPERTS if experts else {}, config=changes | balance)


@pytest.mark.slow
@pytest.mark.parametrize("experts", ["", "experts"])
def test_two_processes_train_as_one(shards, tmp_path, experts):
    one, two = tmp_path / "one", tmp_path / "two"
    three_steps(one, shards, experts)
    env = {
        **os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    command = [sys.executable, __file__, str(shards.path), str(two), experts]
    both = [subprocess.Popen(command, env={**env, "RANK": str(r)}, stderr=subprocess.PIPE, text=True) for r in range(2)]
    errors = [p.communicate(timeout=240)[1] for p in both]
    assert [p.returncode for p in both] == [0, 0], errors
    for row, alone in zip(lines(two), lines(one), strict=True):
        assert row["tokens"] == alone["tokens"] and row["targets"] == alone["targets"]
        assert row["loss"] == pytest.approx(alone["loss"], rel=1e-3)
        assert row.get("expert_load_worst", 0) == pytest.approx(alone.get("expert_load_worst", 0), rel=0.02)
    first = tensors(one, 1)
    for key, t in tensors(two, 1).items():
        if key[1].startswith(("muon.", "adam.")):  # after one step these are the gradients, up to a factor
            torch.testing.assert_close(t, first[key], rtol=1e-4, atol=1e-7)


if __name__ == "__main__":
    distributed.start(CPU)
    torch.use_deterministic_algorithms(True)
    three_steps(sys.argv[2], ShardSet.open(sys.argv[1]), sys.argv[3])


def test_frozen_parameters_keep_their_values_and_the_rest_moves(shards, tmp_path):
    before = dict(new_model().named_parameters())
    model, _ = run(tmp_path, shards, frozen=("qkv", "norm"))
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == ("qkv" in name or "norm" in name), name


def test_checkpoints_are_written_at_round_boundaries_only(shards, tmp_path):
    run(tmp_path, shards, boundary=3, config={"checkpoint_every": 1, "keep": 100})
    steps = [int(p.name[5:]) for p in sorted((tmp_path / "checkpoints").glob("step_*"))]
    assert steps == [s for s in range(1, STEPS + 1) if s % 3 == 0 or s == STEPS]
