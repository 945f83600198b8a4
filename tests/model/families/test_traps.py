"""Traps that other engines fell into with these models, each with its own test (architectures by name and number)."""

import json
from dataclasses import replace

import pytest
import torch
from families_small import SPECIAL, SPECS, model, weights
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import parity
from dokja.engine.forward import Forward
from dokja.engine.kv import Cache
from dokja.errors import CheckpointError
from dokja.model.block import frequencies
from dokja.model.decoder import Decoder
from dokja.model.families import export, load_model, read_config, spec_of
from dokja.model.spec import ModelSpec, MoeSpec, RopeScaling


def written(name: str, folder, **changes) -> dict:
    """The config.json of a spec, with changes (None removes a key), and its weights beside it."""
    made = model(SPECS[name])
    export(made.spec, weights(made), folder, SPECIAL)
    config = {k: v for k, v in (read_config(folder) | changes).items() if v is not None or k not in changes}
    (folder / "config.json").write_text(json.dumps(config))
    return config


def moved(made: Decoder, ids: torch.Tensor, layer: int, by: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries of one layer at positions 0.. and `by` later."""
    rot = made.rows(torch.zeros(1, ids.shape[1] + by, dtype=torch.long)).rot
    x, n = made.embedded(ids), ids.shape[1]
    at = [tuple(part[a : a + n] for part in rot) for a in (0, by)]
    q0, q1 = (made.blocks[layer].qkv(x, turn)[0] for turn in at)
    return q0, q1


# --- positions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["exaone4", "exaone_moe", "exaone_moe 2.0"])
def test_global_layers_have_no_rope_on_purpose(name):
    made = model(SPECS[name])
    for i, layer in enumerate(made.spec.layer_specs):
        q, later = moved(made, parity.tokens(1, 5), i, 9)
        assert torch.equal(q, later) == (layer.window is None)


def test_a_model_without_windows_has_rope_everywhere(tmp_path):
    assert written("exaone4 tied", tmp_path)["sliding_window"] is None
    made = load_model(tmp_path)
    for i in range(made.spec.layers):
        q, later = moved(made, parity.tokens(1, 5), i, 9)
        assert not torch.allclose(q, later)


@pytest.mark.parametrize(
    ("head_dim", "factor", "bands"), [(128, 8, (27, 7, 30)), (128, 16, (27, 7, 30)), (64, 16, (14, 3, 15)),
                                      (80, 8, (17, 4, 19))],
)  # fmt: skip
def test_llama3_scaling_splits_the_bands_as_published(head_dim, factor, bands):
    spec = replace(SPECS["exaone"], head_dim=head_dim, rope_theta=1e6, rope_scaling=RopeScaling(float(factor)))
    ratio = frequencies(replace(spec, rope_scaling=None)) / frequencies(spec)
    kept = (ratio == 1).sum().item()
    stretched = torch.isclose(ratio, torch.tensor(float(factor)), rtol=1e-6).sum().item()
    assert (kept, head_dim // 2 - kept - stretched, stretched) == bands


# --- norms and names ------------------------------------------------------------------------------------------


def test_one_name_means_opposite_norms_in_post_and_pre_norm_layouts(tmp_path):
    post, pre = model(SPECS["exaone4"]), model(SPECS["exaone_moe dense"])
    for made in (post, pre):
        export(made.spec, weights(made), tmp_path / made.spec.norm, SPECIAL)
    name = "model.layers.1.post_attention_layernorm.weight"
    found = {norm: load_file(tmp_path / norm / "model.safetensors")[name] for norm in ("post", "pre")}
    assert torch.equal(found["post"], post.blocks[1].attn_norm)  # after attention
    assert torch.equal(found["pre"], pre.blocks[1].ffn_norm)  # before the feed-forward


def test_post_norm_weights_under_a_pre_norm_config_do_not_load(tmp_path):
    config = written("exaone4", tmp_path)
    plain = {"model_type": "exaone_moe", "mlp_layer_types": ["dense"] * 4}
    (tmp_path / "config.json").write_text(json.dumps(config | plain))
    with pytest.raises(CheckpointError, match="post_feedforward_layernorm"):
        load_model(tmp_path)


def test_an_unknown_model_type_is_answered_with_what_is_missing(tmp_path):
    written("exaone4", tmp_path, model_type="exaone5")
    with pytest.raises(CheckpointError, match=r"'exaone5'.*neither a config reader nor a map.*exaone4_5"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", SPECS)
def test_an_unknown_structural_key_is_refused_in_every_layout(name, tmp_path):
    written(name, tmp_path, attention_sink_tokens=4)
    with pytest.raises(CheckpointError, match="attention_sink_tokens"):
        load_model(tmp_path)


# --- tied heads and odd heads ---------------------------------------------------------------------------------


def test_a_tied_model_loads_without_an_output_matrix_and_an_untied_one_does_not(tmp_path):
    written("exaone tied", tmp_path / "tied")
    made = load_model(tmp_path / "tied")
    assert made.head_weight is made.embed and "head" not in weights(made)
    written("exaone", tmp_path / "own")
    tensors = load_file(tmp_path / "own" / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, tmp_path / "own" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors, the first lm_head\.weight"):
        load_model(tmp_path / "own")


@pytest.mark.parametrize(("width", "head_dim"), [(32, 12), (48, 80), (64, 8)])
def test_head_dim_is_what_the_config_says_and_not_width_over_heads(width, head_dim, tmp_path):
    spec = replace(SPECS["exaone"], width=width, head_dim=head_dim)
    made = model(spec)
    export(spec, weights(made), tmp_path, SPECIAL)
    loaded = load_model(tmp_path).requires_grad_(False)
    assert loaded.spec.head_dim == head_dim != width // spec.heads
    ids = parity.tokens(1, 20)
    with torch.inference_mode():
        engine = Forward(loaded, 1, torch.float32, "cpu", 7)
        engine.prefill(0, [ids[0, :-1].tolist()], room=1)
        assert torch.allclose(engine.decode(ids[:, -1], torch.tensor([19]), 20), made(ids)[:, -1], atol=1e-5)


def test_a_missing_head_dim_is_width_over_heads(tmp_path):
    made = model(replace(SPECS["exaone4"], head_dim=8))
    export(made.spec, weights(made), tmp_path, SPECIAL)
    config = read_config(tmp_path)
    del config["head_dim"]
    assert spec_of(config) == made.spec


# --- patterns -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["LLLG", 4])
def test_missing_layer_types_follow_from_the_pattern_as_a_word_or_a_number(pattern, tmp_path):
    written("exaone4", tmp_path, layer_types=None, sliding_window_pattern=pattern)
    assert load_model(tmp_path).spec == SPECS["exaone4"]


def test_layer_types_outrank_the_pattern(tmp_path):
    config = written("exaone4", tmp_path)
    types = ["full_attention", "sliding_attention", "sliding_attention", "sliding_attention"]
    assert spec_of(config | {"layer_types": types}).layer_pattern == "GLLL"


@pytest.mark.parametrize("types", [None, ["full_attention"] * 4], ids=["missing", "given"])
@pytest.mark.parametrize("pattern", [None, "LLLG", 4, 0])
def test_a_null_window_means_that_every_layer_is_global_with_rope(pattern, types, tmp_path):
    config = written("exaone4 tied", tmp_path)
    config |= {"sliding_window": None, "sliding_window_pattern": pattern, "layer_types": types}
    assert spec_of(config) == SPECS["exaone4 tied"]


def test_the_last_layer_of_a_pattern_word_is_global():
    config = {**read_back("exaone4"), "num_hidden_layers": 6, "layer_types": None}
    assert spec_of(config).layer_pattern == "LLLGLG"


def read_back(name: str) -> dict:
    from dokja.model.families import layout_of

    return layout_of(name).config_from(SPECS[name], SPECIAL)


@pytest.mark.parametrize("pattern", [None, 0, "LXG", ""])
def test_a_window_without_word_of_its_layers_is_refused(pattern):
    config = {**read_back("exaone4"), "layer_types": None, "sliding_window_pattern": pattern}
    with pytest.raises(CheckpointError, match="which layers it holds for"):
        spec_of(config)


def test_local_layers_without_a_window_are_refused():
    with pytest.raises(CheckpointError, match="local layers but no sliding_window"):
        spec_of({**read_back("exaone4"), "sliding_window": None})


# --- per-layer windows and clamps of 2.0 ----------------------------------------------------------------------


def test_per_layer_windows_are_refused_by_a_reader_that_does_not_know_them():
    listed = {**read_back("exaone4"), "sliding_windows": [6, 6, 6, 0]}
    with pytest.raises(CheckpointError, match="sliding_windows"):
        spec_of(listed)
    with pytest.raises(CheckpointError, match="swiglu_limits"):
        spec_of({**read_back("exaone4"), "swiglu_limits": [0.0] * 4})


def test_caches_are_counted_from_the_list_where_there_is_no_scalar_window(tmp_path):
    config = written("exaone_moe 2.0", tmp_path)
    assert "sliding_window" not in config and config["sliding_windows"] == [0, 7, 4, 4]
    spec = load_model(tmp_path).spec
    row = 2 * spec.kv_heads * spec.head_dim * 4
    assert spec.kv_bytes(50, 4) == row * (50 + 7 + 4 + 4)
    cache = Cache(replace(spec, mtp=None), 1, torch.float32, "cpu")
    assert [layer.window for layer in cache.layers] == [None, 7, 4, 4]
    assert [len(group.layers) for group in cache.groups] == [1, 1, 2]


def dense_reference(made: Decoder, ids: torch.Tensor) -> torch.Tensor:
    """K-EXAONE 2.0 by the fact sheet, token by token where that is plainer; no code of the model but its weights."""
    w, s, n = weights(made), made.spec, len(ids)

    def norm(x, name):
        return x / (x.square().mean(-1, keepdim=True) + s.norm_eps).sqrt() * w[name]

    def turn(x):
        half = s.head_dim // 2
        angle = torch.arange(n)[:, None, None] * s.rope_theta ** (-torch.arange(half) / half)
        a, b = x[..., :half], x[..., half:]
        return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1)

    def mlp(x, up, down, limit):
        gate, value = (up @ x).chunk(2)
        if limit:
            gate, value = gate.clamp(max=limit), value.clamp(-limit, limit)
        return down @ (F.silu(gate) * value)

    x = w["embed"][ids]
    for i, window in enumerate(s.window):
        at, limit = f"layers.{i}.", s.clamp[i]
        qkv = norm(x, at + "attn_norm") @ w[at + "qkv_weight"].T
        q, k, v = qkv.view(n, -1, s.head_dim).split([s.heads, s.kv_heads, s.kv_heads], 1)
        q, k = norm(q, at + "q_norm"), norm(k, at + "k_norm")
        if window:
            q, k = turn(q), turn(k)
        k, v = (t.repeat_interleave(s.heads // s.kv_heads, 1) for t in (k, v))
        ago = torch.arange(n)[:, None] - torch.arange(n)
        hidden = (ago < 0) | ((ago >= window) if window else False)
        scores = torch.einsum("qhk,phk->hqp", q, k) / s.head_dim**0.5
        o = torch.einsum("hqp,phk->qhk", scores.masked_fill(hidden, -torch.inf).softmax(-1), v)
        x = x + o.flatten(1) @ w[at + "out_weight"].T
        y = norm(x, at + "ffn_norm")
        if i < s.moe.dense:
            x = x + torch.stack([mlp(t, w[at + "up_weight"], w[at + "down_weight"], limit) for t in y])
            continue
        at += "moe."
        for t in range(n):
            score = (w[at + "router_weight"] @ y[t]).sigmoid()
            best = (score + w[at + "router_bias"]).argsort(descending=True)[: s.moe.active].tolist()
            total = sum(score[e] for e in best)
            parts = [
                score[e] / total * s.moe.scale * mlp(y[t], w[at + "up_weight"][e], w[at + "down_weight"][e], limit)
                for e in best
            ]
            shared = mlp(y[t], w[at + "shared_up_weight"], w[at + "shared_down_weight"], limit)
            x[t] = x[t] + sum(parts) + shared
    return norm(x, "norm") @ w["head"].T


def second_generation(**changes) -> ModelSpec:
    base = replace(
        SPECS["exaone_moe 2.0"], window=(0, 7, 4, 4, 4, 0), layers=6, clamp=(0.0, 0.6, 0.0, 0.0, 0.3, 0.3), mtp=None,
        moe=MoeSpec(8, 3, 16, dense=2, scale=2.5),
    )  # fmt: skip
    return replace(base, **changes)


def test_windows_of_their_own_and_clamps_agree_with_a_reference_written_out(tmp_path):
    spec = second_generation()
    made = model(spec)
    export(spec, weights(made), tmp_path, SPECIAL)
    loaded = load_model(tmp_path).requires_grad_(False)
    ids = parity.tokens(1, 23)
    with torch.inference_mode():
        wanted = dense_reference(made, ids[0])
        assert 1 <= wanted.abs().max() <= 10
        assert (loaded(ids)[0] - wanted).abs().max() <= 1e-5
        engine = Forward(loaded, 1, torch.float32, "cpu", 3)
        assert (engine.prefill(0, [ids[0, :17].tolist()], room=6) - wanted[16]).abs().max() <= 1e-5
        for at in range(17, 23):
            step = engine.decode(ids[:, at], torch.tensor([at]), at + 1)
            assert (step - wanted[at]).abs().max() <= 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {"clamp": ()},
        {"clamp": (0.0, 0.0, 0.0, 0.0, 0.3, 0.3)},
        {"window": (0, 4, 4, 4, 4, 0)},
        {"window": (0, 7, 4, 4, 4, 4)},
        {"moe": replace(second_generation().moe, scale=1.0)},
    ],
    ids=str,
)
def test_the_reference_tells_a_model_that_reads_the_lists_wrongly(changes):
    wrong = model(second_generation(**changes))
    right = model(second_generation())
    wrong.load_state_dict(right.state_dict())
    ids = parity.tokens(1, 23)
    with torch.inference_mode():
        assert (wrong(ids)[0] - dense_reference(right, ids[0])).abs().max() > 1e-3


# --- rings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["exaone4", "exaone_moe 2.0"])
@pytest.mark.parametrize("chunk", [1, 2, 4, 5, 6, 7, 11, 40])
def test_a_ring_of_the_window_survives_prompts_longer_than_it_in_any_chunks(chunk, name):
    """A ring holds W places, so a chunk attends before it is written: else it overwrites what its first tokens see."""
    spec = replace(SPECS[name], mtp=None)
    made = model(spec)
    ids = parity.tokens(1, 33)
    with torch.inference_mode():
        wanted = made(ids)[0]
        for length in (4, 5, 6, 7, 8, 13, 32):
            engine = Forward(made, 1, torch.float32, "cpu", chunk)
            assert (engine.prefill(0, [ids[0, :length].tolist()], room=1) - wanted[length - 1]).abs().max() <= 2e-5
            after = engine.decode(ids[:, length], torch.tensor([length]), length + 1)
            assert (after - wanted[length]).abs().max() <= 2e-5
