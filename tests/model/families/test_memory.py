"""Peak memory of loading, converting and saving: the parameters and about one tensor, not two copies."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from families_small import SPECIAL

from dokja.model.decoder import Decoder
from dokja.model.families import export
from dokja.model.spec import ModelSpec, MoeSpec

MIB = 2**20
SRC = Path(__file__).parents[3] / "src"
CHILD = """
import json, sys
from pathlib import Path
import torch
from dokja.model.families import convert, export, load_model
from dokja.model.families import weights  # all imports are made before the first measurement

def status(key):
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) * 1024

def peak():
    return status("VmHWM") - before

source, target = Path(sys.argv[1]), Path(sys.argv[2])
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = status("VmRSS")
convert(source, target / "converted", fused=True, shard_bytes=None)
convert_ = peak()
model = load_model(source, "auto" if sys.argv[3] == "auto" else None)
load = peak()
export(model.spec, dict(model.named_parameters()), target / "exported", {}, dtype=torch.bfloat16, shard_bytes=None)
both = peak()
size = sum(p.numel() * p.element_size() for p in model.parameters())
print(json.dumps({"convert": convert_, "load": load, "both": both, "size": size}))
"""


def spec(layers: int, width: int) -> ModelSpec:
    """A mixture of experts, of which one layer's experts are a small part."""
    return ModelSpec(
        vocab=2000, width=width, layers=layers, heads=8, kv_heads=2, head_dim=32, ffn=width, context=64, window=8,
        norm="pre", moe=MoeSpec(8, 2, width // 2),
    )  # fmt: skip


needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc to measure the peak with")


def measure(shape: ModelSpec, folder: Path, dtype: torch.dtype, load: str) -> dict[str, float]:
    """Growth of the child's peak in MiB, and the size of the parameters it loaded."""
    with torch.device("meta"):
        names = {name: p.shape for name, p in Decoder(shape).named_parameters()}
    one = {size: torch.randn(size).to(dtype) for size in set(names.values())}  # shared: this process stays small too
    export(shape, {name: one[size] for name, size in names.items()}, folder / "m", SPECIAL, dtype=dtype)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder / "m"), str(folder), load],
        env={"PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {key: value / MIB for key, value in json.loads(done.stdout).items()}
    print({key: f"{value:.0f} MiB" for key, value in found.items()})
    return found


def check(found: dict[str, float], parameter: float) -> None:
    """`parameter`: MiB of the largest parameter as the file has it."""
    slack = 32  # pieces, allocator, the interpreter's own objects
    assert found["size"] > 3 * (parameter + slack), "too small to tell one copy from two"
    assert found["convert"] <= parameter + slack
    assert found["size"] * 0.98 <= found["load"] <= found["size"] + slack  # the measurement sees the one copy
    assert found["both"] <= found["size"] + slack


@needs_proc
def test_loading_converting_and_saving_hold_one_copy(tmp_path):
    shape = spec(layers=10, width=512)
    check(measure(shape, tmp_path, torch.bfloat16, "fp32"), 8 * 512 * 512 * 2 / MIB)


@needs_proc
@pytest.mark.slow
def test_a_checkpoint_of_a_gigabyte_holds_one_copy(tmp_path):
    shape = spec(layers=42, width=1024)
    found = measure(shape, tmp_path, torch.bfloat16, "auto")
    assert found["size"] > 1000
    check(found, 8 * 1024 * 1024 * 2 / MIB)
