"""The decoder: packing, windows, backends of attention, the fused loss, counts."""

import pytest
import torch
from torch.nn import functional as F

from dokja.errors import ConfigError
from dokja.model import attention
from dokja.model.decoder import Decoder
from dokja.model.loss import CHUNK, linear_cross_entropy
from dokja.model.spec import ModelSpec, MoeSpec
from dokja.train.loop import document_lengths

SHAPES = [
    {},
    {"norm": "pre"},
    {"activation": "relu2", "tied": True, "qk_norm": False},
    {"rope": "all", "pattern": "G", "window": None},
    {"pattern": "LG", "kv_heads": 4, "layers": 3},
    {"norm": "pre", "moe": MoeSpec(experts=6, active=2, ffn=16)},
    {"norm": "pre", "qk_norm": False, "rope": "all", "pattern": "G", "window": None, "qkv_bias": True},
]


def spec(**changes) -> ModelSpec:
    base = dict(
        vocab=40, width=32, layers=4, heads=4, kv_heads=2, head_dim=16, ffn=48, context=64, pattern="LLLG", window=5
    )
    return ModelSpec(**(base | changes))


def decoder(**changes) -> Decoder:
    made = Decoder(spec(**changes)).init_weights(0)
    gen = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in made.parameters():  # init leaves some matrices at zero
            if p.ndim > 1:
                p.normal_(0.0, p.shape[1] ** -0.5, generator=gen)
    return made


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 40, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_packed_documents_have_the_logits_they_have_alone(shape):
    # With RoPE a document sits at other positions when packed; only differences of positions may count.
    model, lengths = decoder(**shape), [7, 1, 12, 4]
    texts = [tokens(n, seed=n) for n in lengths]
    docs = torch.repeat_interleave(torch.tensor([1, 2, 3, 4, 0]), torch.tensor([*lengths, 3]))[None].int()
    packed = model(torch.cat([*texts, tokens(3)])[None], docs)[0]
    for text, part in zip(texts, packed[:24].split(lengths), strict=True):
        assert torch.allclose(part, model(text[None])[0], atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_token_sees_what_follows_it(shape):
    model, text = decoder(**shape), tokens(1, 12)
    other = text.clone()
    other[0, 8:] = (other[0, 8:] + 1) % 40
    a, b = model(text), model(other)
    assert torch.allclose(a[:, :8], b[:, :8], atol=1e-5)
    assert not torch.allclose(a[:, 8], b[:, 8], atol=1e-3)


@pytest.mark.parametrize(("layers", "reach"), [(1, 4), (2, 8)])
def test_a_query_of_a_local_layer_sees_itself_and_window_minus_1_before(layers, reach):
    model, text = decoder(pattern="L", layers=layers), tokens(1, 16)
    seen = []
    for at in range(16):
        other = text.clone()
        other[0, at] = (other[0, at] + 1) % 40
        changed = (model(other) - model(text))[0, 12].abs().max() > 1e-4
        if changed:
            seen.append(at)
    assert seen == list(range(12 - reach, 13))


@pytest.mark.parametrize("window", [1, 2, 5, None])
def test_attend_equals_a_plain_loop_over_the_pairs_that_exist(window):
    q, k, v = (torch.randn(1, 9, n, 16, generator=torch.Generator().manual_seed(n)) for n in (4, 2, 3))
    v = v[:, :, :2]
    docs = torch.tensor([[1, 1, 1, 1, 1, 1, 2, 2, 0]])
    got = attention.attend(q, k, v, attention.document_starts(docs), window)
    for i in range(9):
        for head in range(4):
            keys = [j for j in range(i + 1) if docs[0, i] == docs[0, j] and (window is None or i - j < window)]
            score = torch.stack([q[0, i, head] @ k[0, j, head // 2] / 4.0 for j in keys]).softmax(0)
            want = sum(s * v[0, j, head // 2] for s, j in zip(score, keys, strict=True))
            assert torch.allclose(got[0, i, head], want, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("window", [1, 7, None])
@pytest.mark.parametrize("width", [16, 32, 64])
def test_native_attention_and_its_gradients_equal_torchs(dtype, tolerance, window, width):
    gen = torch.Generator().manual_seed(width)
    q, k, v, go = (torch.randn(2, 50, n, width, generator=gen).to(dtype) for n in (6, 3, 3, 6))
    if not attention.native_ready(q):
        pytest.skip("no C++ compiler on this machine")
    docs = torch.repeat_interleave(torch.tensor([1, 2, 3, 0]), torch.tensor([20, 1, 26, 3]))
    start = attention.document_starts(torch.stack((docs, torch.ones_like(docs))))
    results = []
    for fn, kind in ((attention.native, dtype), (attention.sdpa, torch.float32)):
        own = [x.detach().to(kind).requires_grad_() for x in (q, k, v)]
        out = fn(*own, start, window)
        out.backward(go.to(kind))
        results.append([out, *(x.grad for x in own)])
    for got, want in zip(*results, strict=True):
        assert got.dtype == dtype
        assert (got.float() - want).abs().max() <= tolerance * (1 + want.abs().max())


def test_document_starts_restart_at_every_document_and_at_every_padding():
    docs = torch.tensor([[1, 1, 2, 2, 2, 0, 0], [1, 2, 3, 3, 0, 0, 0]])
    assert attention.document_starts(docs).tolist() == [[0, 0, 2, 2, 2, 5, 6], [0, 1, 2, 2, 4, 5, 6]]


@pytest.mark.parametrize("rows", [5, 50, CHUNK + 60])
def test_linear_cross_entropy_and_its_gradients_equal_torchs(rows):
    gen = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 8, generator=gen, requires_grad=True)
    w = torch.randn(40, 8, generator=gen, requires_grad=True)
    target = torch.randint(-20, 40, (rows,), generator=gen)
    target = torch.where(target < 0, -100, target)
    weight = torch.rand(rows, generator=gen) / rows
    loss, logp = linear_cross_entropy(x, w, target, weight, compiled=False)
    (3 * loss).backward()
    got = x.grad, w.grad
    x.grad = w.grad = None
    each = F.cross_entropy(x @ w.t(), target, ignore_index=-100, reduction="none")
    want = (each * weight).sum()
    (3 * want).backward()
    assert torch.allclose(loss, want, atol=1e-5)
    assert torch.allclose(-logp, each, atol=1e-5)
    for a, b in zip(got, (x.grad, w.grad), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_linear_cross_entropy_without_any_target_is_zero():
    x, w = torch.randn(4, 8, requires_grad=True), torch.randn(40, 8, requires_grad=True)
    loss, logp = linear_cross_entropy(x, w, torch.full((4,), -100), torch.ones(4), compiled=False)
    loss.backward()
    assert loss.item() == 0.0 and not logp.any() and not x.grad.any() and not w.grad.any()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_spec_counts_the_parameters_that_exist(shape):
    made, s = decoder(**shape), spec(**shape)
    assert sum(p.numel() for p in made.parameters()) == s.params
    assert sum(p.numel() for p in made.layers[0].parameters()) == s.layer_params()
    inactive = 0 if s.tied else made.embed.numel()  # the look-up multiplies nothing
    for moe in (layer.moe for layer in made.layers if hasattr(layer, "moe")):
        inactive += sum(w.numel() * 4 // 6 for w in (moe.up_weight, moe.down_weight))  # 4 of 6 are not chosen
    assert s.active_params == s.params - inactive


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    a, b, c = (Decoder(spec()).init_weights(seed).embed for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_patterns_end_globally_and_wrong_ones_are_refused():
    assert spec(layers=6).layer_pattern == "LLLGLG"
    assert spec(pattern="GL", layers=2).layer_pattern == "GL"
    assert [layer.rope for layer in spec(layers=4).layer_specs] == [True, True, True, False]
    with pytest.raises(ConfigError, match="window"):
        spec(window=None)
    with pytest.raises(ConfigError, match="kv_heads"):
        spec(kv_heads=3)


def test_attention_flops_count_the_pairs_that_exist():
    spec = ModelSpec(64, 32, 4, 2, 1, 16, 64, 64, pattern="LLLG", window=5)
    docs = torch.tensor([[1] * 9 + [2] * 3 + [0] * 4])
    start = attention.document_starts(docs)
    pairs = 0
    for layer in spec.layer_specs:
        seen = attention.allowed(start, layer.window)[0, 0]
        pairs += int(seen[docs[0] > 0].sum())
    assert spec.attention_flops([9, 3]) == 12 * spec.attn_width * pairs
    assert sorted(document_lengths(docs.numpy())) == [3, 9]


def test_a_description_without_biases_is_what_it_was_before_there_were_any():
    # checkpoints, caches and ledgers hold hashes of it
    assert "qkv_bias" not in spec().to_dict()
    biased = spec(norm="pre", qk_norm=False, qkv_bias=True)
    assert ModelSpec.from_dict(biased.to_dict()) == biased and biased.to_dict()["qkv_bias"] is True
    assert ModelSpec.from_dict(spec().to_dict()) == spec()
    assert biased.params - spec(norm="pre", qk_norm=False).params == 4 * (4 + 2 * 2) * 16
