"""GGUF files: what is in them, and which shapes are refused. Beside llama.cpp: bench/gguf_parity.py."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dokja.errors import ConfigError
from dokja.model.decoder import Decoder
from dokja.model.families import export
from dokja.model.spec import ModelSpec, MoeSpec, MtpSpec, RopeScaling, VisionSpec
from dokja.proof.gguf import KINDS, Kind, architecture, export_gguf, rope_factors
from dokja.proof.gguf_vocab import CONTROL, NORMAL, UNUSED, USER_DEFINED, read_vocabulary
from dokja.recipe.load import load_recipe
from dokja.text.chat import SPECIALS
from dokja.text.template import JINJA
from dokja.text.tokenizer import train_tokenizer

gguf = pytest.importorskip("gguf")
SHAPES = Path(__file__).parents[2] / "recipes" / "shapes"
STRETCHED = RopeScaling(factor=16.0, original=32)
GLOBAL = ModelSpec(
    vocab=320, width=32, layers=2, heads=4, kv_heads=2, head_dim=8, ffn=64, context=64, pattern="G", rope="all",
    rope_theta=1e6, rope_scaling=STRETCHED,
)  # fmt: skip
OLDER = replace(GLOBAL, norm="pre", qk_norm=False, head_dim=12)
LOCAL = replace(GLOBAL, pattern="LLLG", layers=64, window=16, rope="local")


def release(spec: ModelSpec, folder: Path) -> dict[str, torch.Tensor]:
    """A release folder of random weights; our parameters."""
    folder.mkdir(exist_ok=True)
    model = Decoder(spec).init_weights(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    train_tokenizer(["나는 글이다. I am a text of 12 words."] * 3, 300).save(folder)
    export(spec, weights, folder, {"bos": 1, "eos": 2, "pad": 0})
    return weights


def written(folder: Path, kind: Kind = "f32") -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Tensors (dequantised) and metadata of the export of a release folder."""
    export_gguf(folder, folder / "out.gguf", kind)
    reader = gguf.GGUFReader(folder / "out.gguf")
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    return tensors, {name: field.contents() for name, field in reader.fields.items()}


@pytest.mark.parametrize("spec", [GLOBAL, replace(GLOBAL, tied=True), OLDER, replace(OLDER, tied=True)])
def test_every_weight_is_in_the_file_once(spec: ModelSpec, tmp_path: Path) -> None:
    weights = release(spec, tmp_path)
    tensors, _ = written(tmp_path)
    assert ("output.weight" in tensors) != spec.tied
    factors = tensors.pop("rope_freqs.weight")
    assert factors.shape == (spec.head_dim // 2,)
    assert sum(t.size for t in tensors.values()) == spec.params
    q, k, v = (tensors[f"blk.1.attn_{part}.weight"] for part in "qkv")
    assert np.array_equal(np.concatenate([q, k, v]), weights["layers.1.qkv_weight"].numpy())
    both = np.concatenate([tensors["blk.0.ffn_gate.weight"], tensors["blk.0.ffn_up.weight"]])
    assert np.array_equal(both, weights["layers.0.up_weight"].numpy())
    norms = ("post_attention_norm", "post_ffw_norm") if spec.norm == "post" else ("attn_norm", "ffn_norm")
    for theirs, ours in zip(norms, ("attn_norm", "ffn_norm"), strict=True):
        assert np.array_equal(tensors[f"blk.1.{theirs}.weight"], weights[f"layers.1.{ours}"].numpy())
    assert np.array_equal(tensors["token_embd.weight"], weights["embed"].numpy())


@pytest.mark.parametrize(("kind", "error"), [("f16", 1e-3), ("bf16", 8e-3), ("q8_0", 1e-2)])
def test_smaller_kinds_are_near(kind: Kind, error: float, tmp_path: Path) -> None:
    weights = release(GLOBAL, tmp_path)
    tensors, about = written(tmp_path, kind)
    near = tensors["blk.0.ffn_down.weight"].astype(np.float32)
    exact = weights["layers.0.down_weight"].numpy()
    assert 0 < np.abs(near - exact).max() <= error * np.abs(exact).max()
    assert np.array_equal(tensors["output_norm.weight"], weights["norm"].numpy())  # gains stay fp32
    assert ("general.quantization_version" in about) == (kind == "q8_0")


def test_rows_that_q8_0_cannot_cut_stay_f16(tmp_path: Path) -> None:
    release(replace(GLOBAL, ffn=80), tmp_path)
    export_gguf(tmp_path, tmp_path / "out.gguf", "q8_0")
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert (kinds["blk.0.ffn_down.weight"], kinds["blk.0.ffn_up.weight"]) == ("F16", "Q8_0")


def test_metadata_describes_the_shape(tmp_path: Path) -> None:
    release(OLDER, tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    _, about = written(tmp_path)
    assert about["general.architecture"] == "exaone"
    expected = {
        "block_count": 2, "embedding_length": 32, "feed_forward_length": 64, "context_length": 64, "vocab_size": 320,
        "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 12,
        "attention.value_length": 12, "rope.dimension_count": 12, "rope.freq_base": 1e6,
    }  # fmt: skip
    assert {key: about[f"exaone.{key}"] for key in expected} == expected
    assert about["exaone.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)
    assert about["general.license"] == "Apache-2.0"


def test_metadata_has_the_tokenizer(tmp_path: Path) -> None:
    release(GLOBAL, tmp_path)
    _, about = written(tmp_path)
    tokens, types = about["tokenizer.ggml.tokens"], about["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list) and isinstance(types, list)
    raw = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    for text, i in raw["model"]["vocab"].items():
        assert tokens[i] == text
    assert tuple(tokens[: len(SPECIALS)]) == SPECIALS
    assert len(tokens) == GLOBAL.vocab and len(set(tokens)) == GLOBAL.vocab
    assert types[SPECIALS.index("<|end|>")] == CONTROL
    assert types[SPECIALS.index("</think>")] == USER_DEFINED  # stands in an answer
    assert types[len(SPECIALS)] == NORMAL and types[-1] == UNUSED
    assert about["tokenizer.ggml.merges"] == [" ".join(m) for m in raw["model"]["merges"]]
    assert (about["tokenizer.ggml.model"], about["tokenizer.ggml.pre"]) == ("gpt2", "qwen2")
    ids = [about[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "padding")]
    assert ids == [1, 2, 0] and about["tokenizer.ggml.add_bos_token"] is True
    assert about["tokenizer.chat_template"] == JINJA


def test_factors_of_stretched_positions_are_the_published_ones() -> None:
    # EXAONE 4.0 1.2B: of 32 bands 14 stay, 3 are ramped, 15 are divided (reference/architectures.md section 2)
    factors = rope_factors(replace(GLOBAL, head_dim=64, rope_scaling=RopeScaling(16.0)))
    assert factors is not None
    kept, whole = np.isclose(factors, 1.0), np.isclose(factors, 16.0)
    assert (kept.sum(), whole.sum(), (~kept & ~whole).sum()) == (14, 15, 3)
    assert rope_factors(replace(GLOBAL, rope_scaling=None)) is None


@pytest.mark.parametrize(
    ("spec", "arch"),
    [
        (GLOBAL, "exaone4"),
        (LOCAL, "exaone4"),
        (OLDER, "exaone"),
        (replace(GLOBAL, norm="pre", rope_scaling=None), "qwen3"),
        (replace(OLDER, qkv_bias=True, rope_scaling=None), "qwen2"),
        (replace(GLOBAL, mtp=MtpSpec()), "exaone4"),
    ],
)
def test_shapes_that_are_equal_there_have_an_architecture(spec: ModelSpec, arch: str) -> None:
    assert architecture(spec) == arch


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        (replace(LOCAL, layers=4), "compute all of these as global ones"),
        (replace(LOCAL, pattern="LG"), "LLLG over exactly 64 layers"),
        (replace(LOCAL, rope="all"), "RoPE on the local ones"),
        (replace(LOCAL, norm="pre", layers=4), "local layers with pre norm"),
        (replace(GLOBAL, layers=64), "make three of four local"),
        (replace(GLOBAL, rope="local"), "global layers without RoPE"),
        (replace(GLOBAL, qk_norm=False), "post norm without QK-norm"),
        (replace(GLOBAL, head_dim=12), "heads x head_dim (48) other than model.width (32)"),
        (replace(GLOBAL, norm="pre"), "no place for the stretching"),
        (replace(OLDER, qkv_bias=True), "its qwen2 has no place for the stretching"),
        (replace(GLOBAL, qkv_bias=True), "biases on queries, keys and values with post norm or QK-norm"),
        (replace(GLOBAL, clamp=(0.0, 7.0)), "model.clamp"),
        (replace(GLOBAL, window=(16, 8), rope="local"), "windows that differ by layer"),
        (replace(GLOBAL, moe=MoeSpec(4, 2, 16)), "experts"),
        (replace(GLOBAL, activation="relu2"), "relu2"),
        (replace(GLOBAL, vision=VisionSpec(2, 32, 4, 2, 48, (1,), 11, patch=4, window=16)), "vision"),
    ],
)
def test_a_shape_that_would_be_silently_wrong_is_refused(spec: ModelSpec, part: str) -> None:
    with pytest.raises(ConfigError) as error:
        architecture(spec)
    assert part in str(error.value)
    assert "transformers and vLLM" in str(error.value) or "Set model." in str(error.value)


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("3.0-7.8b", "exaone"), ("deep-2.4b", "exaone"), ("deep-32b", "exaone"), ("4.0-1.2b", "exaone4"),
        ("4.0-32b", "exaone4"), ("4.5-33b", None), ("k-236b-a23b", None), ("k2-750b-a37b", None),
    ],
)  # fmt: skip
def test_published_shapes(name: str, arch: str | None) -> None:
    recipe = load_recipe(SHAPES / f"{name}.toml")
    spec = ModelSpec.from_dict({"vocab": recipe.tokenizer.vocab, **recipe.model.model_dump()})
    if arch is None:
        with pytest.raises(ConfigError):
            architecture(spec)
    else:
        assert architecture(spec) == arch


def test_a_pre_tokenizer_without_a_name_is_refused(tmp_path: Path) -> None:
    release(GLOBAL, tmp_path)
    file = tmp_path / "tokenizer.json"
    raw = json.loads(file.read_text(encoding="utf-8"))
    raw["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\p{N}{1,3}| ?\p{L}+"
    file.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"a pattern whose name in llama\.cpp dokja does not know"):
        export_gguf(tmp_path, tmp_path / "out.gguf")
    raw["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    file.write_text(json.dumps(raw), encoding="utf-8")
    assert read_vocabulary(tmp_path, GLOBAL.vocab).pre == "gpt-2"


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    release(GLOBAL, tmp_path)
    export_gguf(tmp_path, tmp_path / "out.gguf")
    before = (tmp_path / "out.gguf").read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        export_gguf(tmp_path, tmp_path / "out.gguf", "q8_0")
    assert (tmp_path / "out.gguf").read_bytes() == before


def test_a_refused_export_leaves_nothing_behind(tmp_path: Path) -> None:
    release(replace(LOCAL, layers=4), tmp_path)
    with pytest.raises(ConfigError):
        export_gguf(tmp_path, tmp_path / "out.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


def test_the_verb_writes_the_file_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dokja.cli.export import Form, export
    from dokja.cli.export import Kind as Asked

    assert tuple(k.value for k in Asked) == KINDS
    release(GLOBAL, tmp_path / "mine")
    export(str(tmp_path / "mine"), Form.gguf, Asked.q8_0, tmp_path / "mine.gguf")
    assert "architecture exaone4" in capsys.readouterr().out
    name = gguf.GGUFReader(tmp_path / "mine.gguf").fields["general.name"].contents()
    assert name == "mine"


@pytest.mark.slow
def test_llama_cpp_computes_the_same_and_refusals_are_needed(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    from gguf_parity import measure

    rows, texts = measure(tmp_path)
    assert [r.name for r in rows if r.equal == bool(r.refusal)] == []
    assert [text for found in texts.values() for text, equal in found if not equal] == []
