"""The planner: its sums, how they scale, what it refuses, and the same bytes in a real model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dokja.errors import ConfigError
from dokja.model import loss
from dokja.model.decoder import Decoder
from dokja.model.plan import memory as memory_module
from dokja.model.plan.devices import DEVICES, Device, find_device
from dokja.model.plan.fit import CPU_MICRO_TOKENS, MICRO_TOKENS, make_job, refuse_too_large, smallest
from dokja.model.plan.memory import Job, activations, kept, local, memory
from dokja.model.plan.mesh import Mesh, check, check_devices
from dokja.model.plan.parts import parts, stage_parts, stages
from dokja.model.plan.serve import refuse_too_large as refuse_to_serve
from dokja.model.plan.serve import serving
from dokja.model.plan.step import NS_STEPS, newton_schulz_flops, step
from dokja.model.spec import ModelSpec, MoeSpec, MtpSpec, VisionSpec
from dokja.recipe.load import load_recipe
from dokja.train import loop, muon
from dokja.train.optim import Optimizer

FOLDER = Path(__file__).parents[2] / "recipes" / "shapes"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
SMALL = ModelSpec(
    vocab=128, width=64, layers=4, heads=4, kv_heads=2, head_dim=16, ffn=96, context=64, pattern="LLLG", window=16
)
MIXED = replace(SMALL, norm="pre", moe=MoeSpec(8, 2, 32, shared=1, dense=1), mtp=MtpSpec())
SEEING = replace(SMALL, vision=VisionSpec(2, 32, 4, 2, 48, (1,), 11, patch=4, window=16), tied=True)
BIASED = replace(SMALL, norm="pre", qk_norm=False, qkv_bias=True)
H100 = DEVICES["h100"]


def shape(name: str) -> ModelSpec:
    recipe = load_recipe(FOLDER / f"{name}.toml")
    return ModelSpec.from_dict({"vocab": recipe.tokenizer.vocab, **recipe.model.model_dump()})


@pytest.mark.parametrize("name", NAMES)
def test_parts_of_a_published_shape_add_up(name: str) -> None:
    spec = shape(name)
    assert sum(part.params for part in parts(spec)) == spec.params


@pytest.mark.parametrize("mesh", ["dp=8", "dp=4,tp=2", "dp=2,tp=2,pp=3", "dp=8,pp=2,ep=4", "dp=8,tp=2,pp=4,ep=2"])
def test_shares_of_all_devices_are_the_whole(mesh: str) -> None:
    at = Mesh.parse(mesh)
    for spec in [MIXED, SEEING] if at.ep == 1 else [MIXED]:
        total = 0.0
        for stage in stage_parts(spec, at.pp):
            for part in stage:  # every device of the stage; what tp does not split is held tp times
                total += kept(part, at, part.params) * at.dp * at.tp / (1 if part.split else at.tp)
        copies = spec.vocab * spec.width if spec.tied and at.pp > 1 else 0
        assert total == spec.params + copies


@pytest.mark.parametrize("spec", [SMALL, MIXED, SEEING, replace(SMALL, activation="relu2", tied=True), BIASED])
def test_state_of_a_real_model_and_optimiser_has_the_planned_bytes(spec: ModelSpec) -> None:
    model = Decoder(spec).init_weights(0)
    optimizer = Optimizer(model, dict.fromkeys(("lr_matrix", "lr_embed", "lr_head", "lr_other"), 0.01), 0.1)
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.ones_like(p)
    optimizer.step(1.0)
    # AdamW also counts its steps, four bytes for each tensor
    moments = [t for t in optimizer.state().values() if t.ndim]
    planned = memory(spec, Mesh(), Job(16, 64))
    assert planned.weights == sum(p.nbytes for p in model.parameters())
    assert planned.gradients == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    assert planned.optimizer == sum(t.nbytes for t in moments)


def kept_for_backward(spec: ModelSpec, rows: int, seq: int) -> int:
    """Bytes that a real forward pass in fp32 keeps, weights apart."""
    model, stored = Decoder(spec).init_weights(0), {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.is_floating_point():
            stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = torch.randint(0, spec.vocab, (rows, seq))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        hidden = model.hidden(tokens)
        return sum(stored.values()) if hidden.requires_grad else 0


@pytest.mark.parametrize("spec", [SMALL, replace(SMALL, norm="pre", qk_norm=False), replace(MIXED, mtp=None)])
def test_activations_are_those_of_a_real_pass_within_a_factor_of_two(spec: ModelSpec) -> None:
    # uncompiled layers keep more than the compiled ones that the formula is of: halves of a rotation, squares of a norm
    planned = activations(spec, Mesh(), Job(64, 256, micro_rows=4, value_bytes=4), 0)
    assert 1.0 <= kept_for_backward(spec, 4, 64) / planned <= 2.0


def test_recomputation_keeps_less_and_computes_a_third_more() -> None:
    spec, mesh = shape("4.0-32b"), Mesh(dp=8, tp=8)
    keep, again = (Job(8192, 8192 * 64, recompute=r) for r in (False, True))
    assert activations(spec, mesh, again, 0) < activations(spec, mesh, keep, 0) / 5
    a, b = (step(spec, mesh, job, H100) for job in (keep, again))
    assert a.flops == b.flops
    assert 1.28 < b.compute / a.compute < 4 / 3  # the output matrix is not run again


@pytest.mark.parametrize("name", NAMES)
def test_flops_of_a_step_are_those_of_the_ledger(name: str) -> None:
    spec, tokens = shape(name), 2 * 4096
    planned = step(spec, Mesh(), Job(4096, tokens), H100)
    assert planned.matrix_flops == 6 * spec.trained_params(spec.mtp is not None) * tokens
    assert planned.attention_flops == pytest.approx(spec.attention_flops([4096, 4096], mtp=spec.mtp is not None))
    # norms, router biases and the embedding's shadow are the only difference to the sum over stages
    products = planned.compute * H100.flops * H100.mfu - planned.muon_flops
    assert products == pytest.approx(planned.flops, rel=1e-4)


def test_doubling_dp_halves_what_fsdp_shards() -> None:
    spec, job = shape("4.0-32b"), Job(4096, 2**22)
    one, two = (memory(spec, Mesh(dp=n), job) for n in (8, 16))
    assert two.state == one.state / 2
    assert (two.activations, two.gathered) == (one.activations, one.gathered)


def test_tp_halves_matrices_and_activations_but_not_gains() -> None:
    spec, job = shape("4.0-32b"), Job(4096, 2**22)
    one, two = (memory(spec, Mesh(tp=n), job) for n in (4, 8))
    gains = 4 * (spec.layers * (2 * spec.width + 2 * spec.head_dim) + spec.width)
    assert two.weights - gains == (one.weights - gains) / 2
    assert two.activations == one.activations / 2


def test_pp_shares_layers_and_keeps_earlier_micro_batches() -> None:
    spec, job = replace(SMALL, layers=8), Job(16, 16 * 32)
    assert [len(run) for run in stages(10, 4)] == [2, 3, 2, 3]
    assert activations(spec, Mesh(pp=4), job, 0) == 4 * activations(spec, Mesh(pp=4), job, 3)
    planned = step(spec, Mesh(pp=4), job, H100)
    assert planned.bubble == 3 / (32 + 3)
    assert step(spec, Mesh(), job, H100).bubble == 0


def test_ep_divides_experts_alone() -> None:
    spec = shape("k-236b-a23b")
    for part in parts(spec):
        share = local(part, Mesh(dp=16, ep=16), part.params)
        assert share == (part.params / 16 if part.experts else part.params)
    flat, spread = (memory(spec, Mesh(dp=64, ep=n), Job(4096, 2**22)) for n in (1, 16))
    assert spread.state == pytest.approx(flat.state)  # FSDP shards the rest of the way either way
    assert spread.gathered < flat.gathered / 3


def test_traffic_follows_the_textbook() -> None:
    spec, job = replace(SMALL, mtp=None), Job(16, 16 * 64, micro_rows=4)
    moved = {t.axis: t.bytes for t in step(spec, Mesh(dp=4, tp=2), job, H100).traffic}
    tokens = 16 * 64 // 4
    assert moved["tp"] == (4 * spec.layers + 2) * 2 * (1 / 2) * tokens * spec.width * 2
    share = sum(local(p, Mesh(tp=2), p.params) for p in parts(spec))
    assert moved["dp"] == pytest.approx(3 / 4 * share * 4 * (2 + 2 + 4))  # four micro batches
    assert moved["muon"] == pytest.approx(2 * 2 * 3 / 4 * sum(p.muon for p in parts(spec)) / 8)
    moved = {t.axis: t.bytes for t in step(MIXED, Mesh(dp=4, ep=4), job, H100).traffic}
    assert moved["ep"] == 4 * 3 * 2 * 3 / 4 * tokens * MIXED.width * 2  # three layers with experts, two chosen
    moved = {t.axis: t.bytes for t in step(spec, Mesh(pp=2), job, H100).traffic}
    assert moved["pp"] == 2 * 16 * 64 * spec.width * 2


def test_an_axis_beyond_a_node_takes_the_network() -> None:
    near, far = (step(SMALL, Mesh(dp=n), Job(16, 16 * 64), H100).traffic[0] for n in (8, 16))
    assert (near.rate, far.rate) == (H100.link, H100.network)


def test_time_is_between_perfect_overlap_and_none() -> None:
    planned = step(shape("k-236b-a23b"), Mesh(dp=64, pp=8, ep=16), Job(8192, 2**22), H100)
    assert planned.compute < planned.seconds < planned.worst
    assert planned.mfu < H100.mfu


def test_muon_costs_what_its_products_cost() -> None:
    part = next(p for p in parts(SMALL) if p.name == "ffn")
    # gate, up [96, 64] and down [64, 96]: x xT, its square, and their product with x
    assert newton_schulz_flops(part) == 3 * NS_STEPS * (2 * 64 * 64 * 96 * 2 + 2 * 64**3)


GIB = 2**30


@pytest.mark.parametrize(
    ("name", "length", "globals_", "locals_"),
    [
        ("4.0-32b", 131_072, 8.0 * GIB, 0.75 * GIB),
        ("k-236b-a23b", 262_144, 12.0 * GIB, 18 * 2**20),
        ("k2-750b-a37b", 262_144, 20.0 * GIB, 44.5 * 2**20),
    ],
)
def test_keys_and_values_are_the_published_table(name: str, length: int, globals_: float, locals_: float) -> None:
    # reference/architectures.md section 2
    spec = shape(name)
    found = serving(spec, Mesh(tp=8), DEVICES["b200"])
    assert found.kv[length] == globals_ + locals_
    assert found.kv[length] == spec.kv_bytes(length)
    assert found.kv_device[length] == spec.kv_bytes(length) / 8
    assert found.kv_token * length == globals_


def test_keys_are_split_as_far_as_there_are_heads() -> None:
    spec = shape("4.0-32b")
    eight, forty = (serving(spec, Mesh(tp=n), H100).kv_device[32_768] for n in (8, 40))
    assert eight == forty == spec.kv_bytes(32_768) / 8


def test_what_fits_is_what_is_left_beside_the_weights() -> None:
    spec = shape("4.0-32b")
    found = serving(spec, Mesh(tp=2), H100)
    held = {w.kind: w.bytes for w in found.weights}
    assert held["bf16"] == pytest.approx(spec.params, rel=1e-3)  # two bytes each, over two devices
    assert 0.26 < held["int4"] / held["bf16"] < 0.32  # the embedding stays bf16
    for s in found.served:
        kv = found.kv_device[s.length]
        assert held[s.kind] + s.sequences * kv <= H100.usable < held[s.kind] + (s.sequences + 1) * kv
        assert s.alone * found.kv_device[s.length] < H100.bandwidth
    none = serving(spec, Mesh(), replace(H100, memory=1e9))
    assert all(s.sequences == 0 and s.together == 0 for s in none.served)


def test_a_model_too_large_to_serve_says_on_what_it_would_fit() -> None:
    spec = shape("k2-750b-a37b")
    with pytest.raises(ConfigError, match=r"GB more than may be filled\. The smallest mesh that fits: tp=8 \(8 dev"):
        refuse_to_serve(spec, Mesh(tp=2), H100)
    refuse_to_serve(spec, Mesh(tp=8), H100)
    with pytest.raises(ConfigError, match="No tp up to 8"):
        refuse_to_serve(spec, Mesh(), replace(H100, memory=1e9))


def test_a_sequence_alone_reads_the_weights_once_a_token() -> None:
    spec = shape("4.0-1.2b")
    found = next(s for s in serving(spec, Mesh(), H100).served if s.kind == "bf16")
    read = 2 * spec.params + spec.kv_bytes(found.length)
    assert found.alone == pytest.approx(H100.bandwidth / read)


@pytest.mark.parametrize(
    ("name", "mesh", "part"),
    [
        ("4.0-32b", "tp=3", "tp=3 does not divide model.heads (40), model.kv_heads (8), model.ffn (27392)"),
        ("4.0-32b", "tp=3", "all that is split: 2 and 4"),
        ("4.0-32b", "tp=16", "model.heads (40), model.kv_heads (8)"),
        ("4.0-32b", "pp=65", "pp=65 stages cannot share 64 layers. Set pp to 64"),
        ("4.0-32b", "dp=8,ep=8", "this model has none. Leave ep out"),
        ("k-236b-a23b", "dp=24,ep=24", "ep=24 does not divide the 128 experts. The nearest that do: 16 and 32"),
        ("k-236b-a23b", "dp=12,ep=8", "dp must be a multiple of ep. Set dp=16"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(name: str, mesh: str, part: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(shape(name), Mesh.parse(mesh))
    assert part in str(error.value)


@pytest.mark.parametrize("text", ["dp", "dp=0", "zp=2", "dp=2,dp=4", "dp=two"])
def test_a_mesh_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Mesh.parse(text)


def test_a_mesh_is_written_as_it_is_read() -> None:
    assert str(Mesh.parse(" dp=8, tp=4 ,ep=2")) == "dp=8,tp=4,ep=2"


def test_a_mesh_of_other_devices_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"= 16 devices, and there are 64. Set dp=8"):
        check_devices(Mesh(dp=2, tp=4, pp=2), 64)
    check_devices(Mesh(dp=8, tp=4, pp=2), 64)


def test_serving_may_split_further_than_key_heads() -> None:
    spec = replace(shape("deep-7.8b"), heads=32, kv_heads=8)
    check(spec, Mesh(tp=16), serve=True)
    with pytest.raises(ConfigError):
        check(spec, Mesh(tp=16))


def test_rows_that_cannot_be_shared_out_are_refused() -> None:
    spec = shape("4.0-32b")
    with pytest.raises(ConfigError, match=r"longer than model\.context"):
        make_job(spec, Mesh(), H100, 262_144, 262_144)
    with pytest.raises(ConfigError, match="Set --batch-tokens 98304"):
        make_job(spec, Mesh(dp=12), H100, 8192, 100_000)
    with pytest.raises(ConfigError, match="a rank has 2"):
        make_job(spec, Mesh(dp=4), H100, 8192, 8 * 8192, micro_rows=3)


def test_the_largest_micro_batch_that_fits_is_taken() -> None:
    spec, mesh = shape("4.0-1.2b"), Mesh(dp=8)
    job = make_job(spec, mesh, H100, 4096, 2**22)
    assert memory(spec, mesh, job).total <= H100.usable
    assert memory(spec, mesh, replace(job, micro_rows=2 * job.micro_rows)).total > H100.usable
    assert make_job(spec, mesh, replace(H100, memory=1e15), 4096, 2**22).micro_tokens == MICRO_TOKENS
    assert make_job(spec, mesh, replace(H100, memory=12e9), 4096, 2**22).recompute


def test_what_does_not_fit_says_by_how_much_and_what_would() -> None:
    spec, mesh = shape("4.0-32b"), Mesh(tp=4)
    job = make_job(spec, mesh, H100, 8192, 2**22)
    over = memory(spec, mesh, job).total - H100.usable
    with pytest.raises(ConfigError) as error:
        refuse_too_large(spec, mesh, job, H100)
    found = smallest(spec, mesh, job, H100)
    assert found is not None and found.pp == found.ep == 1 and found.tp > 1
    assert f"{over / 1e9:,.1f} GB more" in str(error.value) and f"{found} ({found.devices} devices)" in str(error.value)
    refuse_too_large(spec, found, make_job(spec, found, H100, 8192, 2**22), H100)  # and it does fit
    half = found.devices // 2
    for fewer in [Mesh(half // tp, tp) for tp in (2, 4, 8) if half >= tp]:
        assert memory(spec, fewer, make_job(spec, fewer, H100, 8192, 2**22)).total > H100.usable


def test_where_no_mesh_of_the_kind_fits_it_says_so() -> None:
    spec, tiny = shape("k2-750b-a37b"), replace(H100, memory=8e9)
    job = make_job(spec, Mesh(dp=8), tiny, 8192, 2**22)
    with pytest.raises(ConfigError, match="No mesh of this kind"):
        refuse_too_large(spec, Mesh(dp=8), job, tiny)


def test_numbers_that_other_rooms_have_too_are_the_same() -> None:
    assert NS_STEPS == muon.NS_STEPS
    assert loop.MICRO_TOKENS == {"cpu": CPU_MICRO_TOKENS, "cuda": MICRO_TOKENS}
    for vocab in (128, 32_768, 102_400, 153_600):
        assert memory_module.loss_rows(vocab) == loss.chunk_rows(vocab)


def test_an_unknown_device_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="h100, h200, b200, or cpu"):
        find_device("v100")
    assert isinstance(find_device("h200"), Device)
