"""config.json in every spelling that was ever shipped, and sentences for what cannot be read."""

import pytest
from families_small import SPECS

from dokja.errors import CheckpointError
from dokja.model.families import layout_of, spec_of
from dokja.model.spec import ModelSpec, MoeSpec, MtpSpec, RopeScaling, VisionSpec

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
DEEP = {
    "activation_function": "silu", "architectures": ["ExaoneForCausalLM"], "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_exaone.ExaoneConfig"}, "bos_token_id": 1, "embed_dropout": 0.0,
    "eos_token_id": 361, "head_dim": 80, "hidden_size": 2560, "initializer_range": 0.02, "intermediate_size": 7168,
    "layer_norm_epsilon": 1e-05, "max_position_embeddings": 32768, "model_type": "exaone", "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_layers": 30, "pad_token_id": 0, "rope_scaling": LLAMA3, "rope_theta": 1000000,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.43.1", "use_cache": True,
    "vocab_size": 102400,
}  # fmt: skip
FOUR = {
    "architectures": ["Exaone4ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 361,
    "head_dim": 128, "hidden_act": "silu", "hidden_size": 5120, "initializer_range": 0.02, "intermediate_size": 27392,
    "max_position_embeddings": 131072, "model_type": "exaone4", "num_attention_heads": 40, "num_hidden_layers": 64,
    "num_key_value_heads": 8, "pad_token_id": 0, "rms_norm_eps": 1e-05, "rope_scaling": {**LLAMA3, "factor": 16.0},
    "rope_theta": 1000000, "sliding_window": 4096, "sliding_window_pattern": "LLLG", "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.54.0.dev0", "use_cache": True, "vocab_size": 102400,
    "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 16,
}  # fmt: skip
K = {
    "architectures": ["ExaoneMoEForCausalLM"], "bos_token_id": 1, "dtype": "bfloat16", "eos_token_id": 53,
    "first_k_dense_replace": 1, "head_dim": 128, "hidden_act": "silu", "hidden_size": 6144, "intermediate_size": 18432,
    "is_moe_layer": [False] + [True] * 47, "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 12,
    "max_position_embeddings": 262144, "mlp_layer_types": ["dense"] + ["sparse"] * 47, "model_type": "exaone_moe",
    "moe_intermediate_size": 2048, "n_group": 1, "norm_topk_prob": True, "num_attention_heads": 64,
    "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 8,
    "num_nextn_predict_layers": 1, "mtp_layer_types": ["full_attention"], "mtp_sliding_windows": [0],
    "num_shared_experts": 1, "pad_token_id": 0, "rms_norm_eps": 1e-05,
    "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"}, "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid", "sliding_window": 128, "sliding_window_pattern": "LLLG",
    "sliding_windows": [128, 128, 128, 0] * 12, "tie_word_embeddings": False, "topk_group": 1,
    "transformers_version": "5.0.0.dev0", "use_cache": True, "vocab_size": 153600,
}  # fmt: skip
K_SPEC = ModelSpec(
    vocab=153600, width=6144, layers=48, heads=64, kv_heads=8, head_dim=128, ffn=18432, context=262144, window=128,
    norm="pre", rope_theta=1e6, moe=MoeSpec(128, 8, 2048, scale=2.5), mtp=MtpSpec(),
)  # fmt: skip


def without(config: dict, *keys: str, **changes) -> dict:
    return {k: v for k, v in config.items() if k not in keys} | changes


def test_an_official_config_of_3_5_is_read():
    assert spec_of(DEEP) == ModelSpec(
        vocab=102400, width=2560, layers=30, heads=32, kv_heads=8, head_dim=80, ffn=7168, context=32768, pattern="G",
        norm="pre", qk_norm=False, rope="all", rope_theta=1e6, rope_scaling=RopeScaling(8.0), tied=True,
    )  # fmt: skip
    assert spec_of(without(DEEP, "rope_scaling", rope_theta=5e5)).rope_scaling is None


def test_a_copy_of_it_under_llamas_names_is_the_same_shape():
    copy = without(DEEP, "activation_function", "num_layers", "layer_norm_epsilon", "auto_map", "embed_dropout")
    copy |= {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "num_hidden_layers": 30,
        "rms_norm_eps": 1e-5, "attention_bias": False, "mlp_bias": False, "pretraining_tp": 1,
    }  # fmt: skip
    assert spec_of(copy) == spec_of(DEEP)
    with pytest.raises(CheckpointError, match="attention_bias is True"):
        spec_of({**copy, "attention_bias": True})


def test_an_official_config_of_4_0_is_read_in_the_words_of_transformers_4_and_5():
    spec = ModelSpec(
        vocab=102400, width=5120, layers=64, heads=40, kv_heads=8, head_dim=128, ffn=27392, context=131072, window=4096,
        rope_theta=1e6, rope_scaling=RopeScaling(16.0),
    )  # fmt: skip
    new = without(FOUR, "rope_theta", "rope_scaling", "torch_dtype")
    nested = {**FOUR["rope_scaling"], "rope_theta": 1000000}
    assert spec_of(FOUR) == spec
    assert spec_of({**new, "rope_parameters": nested}) == spec == spec_of({**new, "rope_scaling": nested})


def test_a_config_of_4_5_is_read_from_its_two_tables():
    text = without(FOUR, "architectures", "head_dim", "torch_dtype", "tie_word_embeddings", vocab_size=153600)
    text |= {"max_position_embeddings": 262144, "num_nextn_predict_layers": 1, "mtp_share_layers": True}
    vision = {
        "depth": 28, "fullatt_block_indexes": [6, 13, 20, 27], "hidden_act": "silu", "hidden_size": 2048,
        "in_channels": 3, "intermediate_size": 5120, "model_type": "exaone4_5_vision", "num_heads": 32,
        "num_key_value_heads": 8, "out_hidden_size": 5120, "patch_size": 14, "spatial_merge_size": 2,
        "temporal_patch_size": 2, "tokens_per_second": 2, "window_size": 112,
    }  # fmt: skip
    config = {
        "architectures": ["Exaone4_5_ForConditionalGeneration"], "model_type": "exaone4_5", "image_token_id": 67,
        "video_token_id": 68, "vision_start_token_id": 73, "vision_end_token_id": 74, "vision_token_id": 67,
        "text_config": text, "vision_config": vision, "tie_word_embeddings": False, "dtype": "bfloat16",
    }  # fmt: skip
    spec = spec_of(config)
    tower = VisionSpec(28, 2048, 32, 8, 5120, (6, 13, 20, 27), 67, 68)
    assert spec.params == 34_350_097_664 and spec.vision == tower and spec.head_dim == 128
    assert spec.mtp == MtpSpec(4096)  # as layer 0, which is what vLLM builds
    early = {**config, "text_config": {**text, "model_type": "exaone4_5_text"}}
    assert spec_of(early) == spec
    with pytest.raises(CheckpointError, match="fullatt_block_indexes"):  # no default may stand in for it
        spec_of({**config, "vision_config": without(vision, "fullatt_block_indexes")})
    with pytest.raises(CheckpointError, match=r"vision_config has keys.*deepstack"):
        spec_of({**config, "vision_config": {**vision, "deepstack": [1]}})


def test_an_official_config_of_k_exaone_is_read_and_older_ones_with_less():
    assert spec_of(K) == K_SPEC
    lists = ("is_moe_layer", "mlp_layer_types", "sliding_windows", "layer_types", "mtp_layer_types")
    older = without(K, *lists, "mtp_sliding_windows", model_type="ExaoneMoE")
    assert spec_of(older) == K_SPEC
    assert spec_of(without(older, "num_nextn_predict_layers")).mtp is None
    assert spec_of(without(older, "num_nextn_predict_layers"), mtp=True) == K_SPEC  # the file has the tensors
    assert spec_of(K, mtp=False).mtp is None
    assert spec_of({**older, "first_k_dense_replace": 3}).moe.dense == 3


def test_a_config_of_2_0_is_read_from_its_lists():
    windows = [0, 4096] + [128, 128, 128, 0] * 19
    config = without(K, "is_moe_layer", "first_k_dense_replace", "sliding_window", "sliding_window_pattern")
    config |= {
        "num_hidden_layers": 78, "sliding_windows": windows, "swiglu_limits": [0] * 62 + [7.0] * 16,
        "layer_types": ["sliding_attention" if w else "full_attention" for w in windows], "num_experts": 256,
        "mlp_layer_types": ["dense"] * 2 + ["sparse"] * 76, "mtp_layer_types": ["sliding_attention"],
        "mtp_sliding_windows": [128], "mtp_num_speculative_steps": 4, "topk_method": "noaux_tc",
    }  # fmt: skip
    spec = spec_of(config)
    assert spec.params == 749_357_484_800 and spec.window == tuple(windows) and spec.mtp == MtpSpec(128)
    assert spec.clamp == (0.0,) * 62 + (7.0,) * 16 and spec.moe.dense == 2
    assert spec_of(without(config, "layer_types")) == spec
    assert spec_of(without(config, "mtp_sliding_windows")).mtp == MtpSpec(128)  # the narrow one, not layer 1's
    assert spec_of({**config, "sliding_window": 4096}) == spec  # lists come before scalars


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"quantization_config": {"quant_method": "fp8"}}, r"keys that dokja does not know.*quantization_config"),
        ({"qk_nope_head_dim": 64}, "qk_nope_head_dim"),
        ({"scoring_func": "softmax"}, r"scoring_func is 'softmax'.*'sigmoid' only"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"hidden_size": None}, "lacks 'hidden_size'"),
        ({"hidden_size": "6144"}, "whole number"),
        ({"num_experts": None}, "lacks 'num_experts'"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, "'yarn' RoPE"),
        ({"rope_parameters": {"rope_type": "default", "mrope_section": [1]}}, r"rope_parameters has keys.*mrope"),
        ({"rope_parameters": 5}, "must be a table"),
        ({"layer_types": ["chunked_attention"] * 48}, "chunked_attention"),
        ({"layer_types": ["full_attention"] * 47}, "does not describe 48 layers"),
        ({"sliding_windows": [0] * 48}, "contradict"),
        ({"mlp_layer_types": ["sparse"] * 48}, "contradict"),
        ({"mlp_layer_types": None, "is_moe_layer": [True, False] * 24}, "dense layers between"),
        ({"num_nextn_predict_layers": 2}, "one such layer"),
        ({"num_experts_per_tok": 500}, r"cannot be.*moe\.active"),
        ({"num_key_value_heads": 7}, "cannot be.*kv_heads"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_a_config_that_cannot_be_meant_is_refused_with_a_sentence(changes, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        spec_of({**K, **changes})


@pytest.mark.parametrize("name", SPECS)
def test_no_key_that_is_written_is_read_by_nobody(name):
    layout = layout_of(name.split()[0])
    written = layout.config_from(SPECS[name], {"bos": 1, "eos": 2, "pad": 0})
    assert layout.spec_from(written) == SPECS[name]
    with pytest.raises(CheckpointError, match="other_key"):
        layout.spec_from({**written, "other_key": 1})


QWEN = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 1536, "initializer_range": 0.02,
    "intermediate_size": 8960, "max_position_embeddings": 32768, "max_window_layers": 28, "num_attention_heads": 12,
    "num_hidden_layers": 28, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
    "sliding_window": 32768, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True,
    "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip


def test_a_config_of_qwen2_has_biases_that_no_key_names():
    spec = spec_of(QWEN)
    assert (spec.params, spec.qkv_bias, spec.head_dim, spec.layer_pattern) == (1_543_714_304, True, 128, "G" * 28)
    assert (spec.window, spec.rope, spec.norm_eps, spec.rope_theta) == (None, "all", 1e-6, 1e6)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"use_sliding_window": True}, "use_sliding_window is True"),
        ({"layer_types": ["full_attention"] * 27 + ["sliding_attention"]}, "layers of other kinds"),
        ({"qk_layernorm": True}, "qk_layernorm"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "'yarn' RoPE"),
    ],
    ids=str,
)
def test_a_qwen2_that_is_not_computed_is_refused(changes, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        spec_of({**QWEN, **changes})
