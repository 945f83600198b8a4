"""Packed weights: the numbers that the bytes stand for, their file, and what is kept of a folder."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine_small import model
from test_engine_load import SPECIAL, TOKENIZER

from dokja.engine import packed_cache
from dokja.engine.api import Request
from dokja.engine.engine import Engine
from dokja.engine.load import load_engine
from dokja.engine.packed import BITS, Bits, Matrix, PackedWeights, obstacle
from dokja.errors import CheckpointError
from dokja.model.decoder import Decoder
from dokja.model.families import export, load_model
from dokja.model.families.weights import open_checkpoint
from dokja.model.native.build import cache_dir, load
from dokja.model.spec import MoeSpec, MtpSpec

LARGE = {"width": 128, "head_dim": 32, "ffn": 192, "vocab": 281, "context": 96}
LLAMA = {**LARGE, "pattern": "G", "window": None, "norm": "pre", "qk_norm": False, "rope": "all"}
FAMILIES = {
    "exaone": LLAMA,
    "exaone tied": {**LLAMA, "tied": True},
    "exaone4": LARGE,
    "qwen2": {**LLAMA, "qkv_bias": True},
}

SRC = Path(__file__).parents[2] / "src"

pytestmark = pytest.mark.skipif(load("pack") is None or load("wide") is None, reason="no C++ compiler")
EACH = pytest.mark.parametrize("bits", BITS)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Nobody's packed weights but this test's."""
    monkeypatch.setenv("DOKJA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packed"


def numbers(packed: PackedWeights, name: str) -> np.ndarray:
    """A matrix [N, n] out of its bytes, as the head of matrix.h describes them."""
    m: Matrix = packed._matrix(name)
    data = packed._tensor(name).numpy()
    if m.kind == 0:
        w = data.view(np.uint16).astype(np.uint32) << 16
        w = w.view(np.float32).reshape(len(data), m.n // 2, 32, 2).transpose(0, 2, 1, 3).reshape(-1, m.n)
    elif m.kind == 1:
        w = data.reshape(len(data), m.n // 4, 32, 4).transpose(0, 2, 1, 3).reshape(-1, m.n).astype(np.float32) - 128
        w *= packed._tensor(f"{name}.scale").numpy()[:, None]
    else:
        blocks = data.reshape(len(data), m.n // 32, 576)
        steps = blocks[..., :512].reshape(*blocks.shape[:2], 4, 32, 4)
        both = np.stack((steps & 15, steps >> 4), axis=3)  # [panel, group, step, half, lane, 4]
        q = both.transpose(0, 4, 1, 2, 3, 5).reshape(len(data) * 32, -1, 32).astype(np.float32) - 8
        scale = blocks[..., 512:].copy().view(np.float16).transpose(0, 2, 1).reshape(len(data) * 32, -1, 1)
        w = (q * scale.astype(np.float32)).reshape(-1, m.n)
    assert not w[m.N :].any()
    return w[: m.N]


def rounded(w: torch.Tensor, bits: Bits) -> torch.Tensor:
    """Rounding written out once more."""
    if bits == "bf16":
        return w.bfloat16().float()
    if bits == "int8":
        scale = w.abs().amax(1, keepdim=True) / 127
        return (w / scale).round() * scale
    groups = w.unflatten(1, (-1, 32))
    scale = (groups.gather(2, groups.abs().argmax(2, keepdim=True)) / -8).half().float()
    return ((groups / scale).round().clamp(-8, 7) * scale).flatten(1)


@EACH
def test_the_bytes_stand_for_the_rounded_numbers(bits):
    decoder = model(**LARGE)
    packed = PackedWeights.of(decoder, bits)
    for name, w, kept in (
        ("layers.2.up", decoder.blocks[2].up_weight, bits),
        ("layers.0.qkv", decoder.blocks[0].qkv_weight, bits),
        ("head", decoder.head_weight, "int8" if bits == "int4" else bits),  # 281 outputs: the last panel is not full
    ):
        want = rounded(w, kept).numpy()
        step = np.abs(want).max() / {"bf16": 2**20, "int8": 120, "int4": 6}[kept]
        got = numbers(packed, name)
        assert (np.abs(got - want) <= step).all()  # the other way where a number lies between two steps
        assert (np.abs(got - want) < 1e-6).mean() > 0.999
    assert torch.equal(packed.embed, decoder.embed.bfloat16()) and torch.equal(packed.norm, decoder.norm)
    _, (*gains, bias) = packed.layer(1)
    assert bias is None
    own = decoder.blocks[1]
    assert all(
        torch.equal(a, b) for a, b in zip(gains, (own.q_norm, own.k_norm, own.attn_norm, own.ffn_norm), strict=True)
    )


def test_the_bytes_are_as_few_as_they_should_be():
    decoder = model(**LARGE)
    for bits, wanted in (("bf16", 16), ("int8", 8), ("int4", 4.5)):
        packed = PackedWeights.of(decoder, bits)
        w = decoder.blocks[0].up_weight
        assert packed._parts["layers.0.up"].bytes * 8 == wanted * w.numel()


@EACH
def test_neither_threads_nor_the_dtype_of_the_source_change_a_byte(bits):
    decoder = model(**LARGE)
    for p in decoder.parameters():
        p.data = p.data.bfloat16().float()
    want, before = PackedWeights.of(decoder, bits).body, torch.get_num_threads()
    for p in decoder.parameters():
        p.data = p.data.bfloat16()
    try:
        torch.set_num_threads(3)
        assert torch.equal(PackedWeights.of(decoder, bits).body, want)
    finally:
        torch.set_num_threads(before)


def test_the_format_is_the_one_that_files_are_known_by():
    # Whoever changes these bytes on purpose raises packed.FORMAT, so that no kernel meets a file of the old order.
    w = (torch.arange(281 * 128) * 40503 % 1009 - 504) / 1024  # exact, on any machine
    decoder = model(**LARGE)
    for p in decoder.parameters():
        p.data = w.repeat(9)[: p.numel()].view(p.shape).clone()
    digests = {bits: hashlib.sha256(PackedWeights.of(decoder, bits).body.numpy()).hexdigest()[:12] for bits in BITS}
    assert digests == {"bf16": "bf7603f64bde", "int8": "1d652543f12a", "int4": "09eb738ac199"}


def test_weights_that_are_no_numbers_are_refused():
    for bad in (float("nan"), float("inf")):
        decoder = model(**LARGE)
        decoder.blocks[1].down_weight[5, 7] = bad
        with pytest.raises(CheckpointError, match=r"layers\.1\.down_weight.*not finite"):
            PackedWeights.of(decoder, "int4")


def test_shapes_that_the_kernel_lacks_are_told_apart():
    shapes = {"experts": {"moe": MoeSpec(4, 2, 32)}, "multi-token": {"mtp": MtpSpec()}, "head_dim": {"head_dim": 24}}
    for word, change in shapes.items():
        assert word in (obstacle(model(**{**LARGE, **change}).spec) or "")
    assert "cuda" in (obstacle(model(**LARGE).spec, "cuda") or "")
    assert obstacle(model(**LARGE).spec) is None


# --- the file -----------------------------------------------------------------------------------------------------


@EACH
def test_a_file_gives_back_every_byte(bits, tmp_path):
    packed = PackedWeights.of(model(**LARGE), bits)
    packed.source = "abc"
    packed.save(tmp_path / "w.safetensors", "mine")
    again = PackedWeights.open(tmp_path / "w.safetensors", "mine")
    assert (again.spec, again.bits, again.source) == (packed.spec, bits, "abc")
    assert torch.equal(again.body, packed.body) and torch.equal(again.embed, packed.embed)
    where = again.body.data_ptr()
    again.settle()
    assert again.body.data_ptr() != where and torch.equal(again.body, packed.body)
    assert [f.name for f in tmp_path.glob("w*")] == ["w.safetensors"]


def test_other_readers_know_the_file(tmp_path):
    from safetensors import safe_open

    packed = PackedWeights.of(model(**LARGE), "int4")
    packed.save(tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("layers.3.down"), packed._tensor("layers.3.down"))
        assert torch.equal(file.get_tensor("embed"), packed.embed)
        assert file.metadata()["bits"] == "int4"
    size = int.from_bytes((tmp_path / "w.safetensors").read_bytes()[:8], "little")
    assert (8 + size) % 4096 == 0 and not any(part.offset % 64 for part in packed._parts.values())


def test_any_damage_is_found(tmp_path):
    path = tmp_path / "w.safetensors"
    PackedWeights.of(model(**LARGE), "int4").save(path, "mine")
    whole = path.read_bytes()
    begin = 8 + int.from_bytes(whole[:8], "little")
    theta = whole.index(b"rope_theta") + 15
    for at in (0, 7, 9, theta, begin - 1, begin, begin + 70_000, len(whole) - 70_000, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CheckpointError, match=r"damaged|truncated|format"):
            PackedWeights.open(path, "mine")
    for cut in (b"", whole[:5], whole[: begin - 4], whole[:begin], whole[:-1], whole + b"x"):
        path.write_bytes(cut)
        with pytest.raises(CheckpointError, match=r"damaged|truncated"):
            PackedWeights.open(path, "mine")
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="other weights"):
        PackedWeights.open(path, "another's")
    PackedWeights.open(path, "mine")


# --- folders ------------------------------------------------------------------------------------------------------


def release(folder, made, dtype=torch.float32):
    export(made.spec, dict(made.named_parameters()), folder, SPECIAL, dtype=dtype, shard_bytes=200_000)
    TOKENIZER.save(folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_packs_as_its_model_does(family, dtype, tmp_path):
    folder = release(tmp_path / "m", model(**FAMILIES[family]), dtype)
    want = PackedWeights.of(load_model(folder), "int4")
    got = PackedWeights.read(open_checkpoint(folder), "int4", "sha")
    assert torch.equal(got.body, want.body) and torch.equal(got.embed, want.embed) and got.source == "sha"


CHILD = """
import json, sys
from pathlib import Path
from dokja.engine.packed import PackedWeights
from dokja.model.families.weights import open_checkpoint

def status(key):
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) * 1024

Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = status("VmRSS")
packed = PackedWeights.read(open_checkpoint(Path(sys.argv[1])), "int8", "")
print(json.dumps([status("VmHWM") - before, packed.body.nbytes + packed.embed.nbytes]))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc to measure the peak with")
def test_packing_a_folder_holds_the_packed_weights_and_one_layer(tmp_path):
    shape = model(width=32, vocab=32).spec
    shape = replace(shape, width=512, vocab=8000, heads=8, head_dim=64, ffn=2048, layers=18, tied=True)
    with torch.device("meta"):
        names = {name: p.shape for name, p in Decoder(shape).named_parameters()}
    one = {size: torch.randn(size).bfloat16() for size in set(names.values())}
    export(shape, {name: one[size] for name, size in names.items()}, tmp_path / "m", SPECIAL, dtype=torch.bfloat16)
    env = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1", "DOKJA_CACHE": str(cache_dir().parent)}
    load("pack")
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "m")], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak, size = json.loads(done.stdout)
    assert size > 70 * 2**20 and size * 0.98 <= peak <= size + 32 * 2**20


def answer(engine: Engine) -> list[int]:
    return engine.complete([Request("x", [1, 5, 20, 30], 12, temperature=0.7, seed=3)])[0].tokens


@EACH
def test_a_folder_is_packed_once_and_read_no_more(bits, tmp_path, cache, monkeypatch):
    made = model(**LARGE)
    folder = release(tmp_path / "m", made)
    engine, _, first = load_engine(folder, slots=2, weights=bits)
    assert answer(engine) == answer(Engine(made, slots=2, weights=bits))
    assert len(list(cache.iterdir())) == 1 and first["weights"] == bits

    def read(*_: object) -> None:
        raise AssertionError("the source was read again")

    monkeypatch.setattr(packed_cache, "sha256_file", read)
    monkeypatch.setattr("dokja.model.families.weights.open_checkpoint", read)
    again, _, second = load_engine(folder, slots=2, weights=bits)
    assert answer(again) == answer(engine) and second == first
    assert first["sha256"] == load_engine_sha(folder, monkeypatch)


def load_engine_sha(folder, monkeypatch) -> str:
    monkeypatch.undo()
    return load_engine(folder)[2]["sha256"]


def test_a_source_that_changed_is_packed_anew(tmp_path, cache):
    folder = release(tmp_path / "m", model(**LARGE))
    before = answer(load_engine(folder, weights="int8")[0])
    other = model(1, **LARGE)
    release(folder, other)
    assert answer(load_engine(folder, weights="int8")[0]) == answer(Engine(other, weights="int8")) != before
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_file_is_named_and_made_anew(tmp_path, cache, capsys):
    folder = release(tmp_path / "m", model(**LARGE))
    want = answer(load_engine(folder, weights="int4")[0])
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    for broken in (whole[:-100], whole[:9000] + b"\0" + whole[9001:]):
        assert broken != whole
        path.write_bytes(broken)
        capsys.readouterr()
        assert answer(load_engine(folder, weights="int4")[0]) == want
        assert path.name in capsys.readouterr().err and path.read_bytes() == whole
    load_engine(folder, weights="int4")
    assert capsys.readouterr().err == ""


def test_files_unused_for_longest_make_room(tmp_path, cache, monkeypatch):
    folders = [release(tmp_path / str(n), model(n, **LARGE)) for n in range(3)]
    for age, folder in enumerate(folders):
        load_engine(folder, weights="int4")
        for file in cache.iterdir():
            then = file.stat().st_mtime - 100 + age
            os.utime(file, (then, then))
    assert len(packed_cache.files()) == 3
    monkeypatch.setattr(packed_cache, "LIMIT", 3 * packed_cache.files()[0].stat().st_size)
    load_engine(folders[0], weights="int4")  # used again
    load_engine(folders[1], weights="int8")  # larger, and new: it stays by itself if it must
    kept = packed_cache.files()
    assert len(kept) == 2 and packed_cache.find(packed_cache.Source(folders[0]), "int4") is not None


def test_a_disk_without_room_is_said_and_does_no_harm(tmp_path, cache, monkeypatch, capsys):
    made = model(**LARGE)
    folder = release(tmp_path / "m", made)
    monkeypatch.setattr(packed_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=9))
    engine, _, _ = load_engine(folder, weights="int4")
    assert answer(engine) == answer(Engine(made, weights="int4"))
    assert "could not be kept" in capsys.readouterr().err and not list(cache.iterdir())


@EACH
def test_new_weights_are_packed_where_the_old_ones_were(bits, tmp_path):
    engine, other = Engine(model(**LARGE), weights=bits), model(1, **LARGE)
    first = answer(engine)
    engine.take_weights(other)
    assert answer(engine) == answer(Engine(other, weights=bits)) != first
    engine.load_weights(release(tmp_path / "m", model(**LARGE)))
    assert answer(engine) == first
