"""What a person may write in a recipe, key by key.

A field made with `derived(...)` may be left out: `derive.py` fills it from the `scale` dial and prints the formula.
It is typed as if it were always there, because every Recipe that `load_recipe` returns is filled.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, field_validator


def derived(description: str, **constraints: Any) -> Any:
    """A field that stays None only until `derive.py` has filled it."""
    return Field(default=None, description=description, **constraints)


def _whole(value: Any) -> Any:
    """`2e6` is a float to TOML and a count to a person."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Seed = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(ge=0.0)]
Strings = Annotated[tuple[str, ...], Strict(False)]
Language = Literal["ko", "en"]
Languages = Annotated[tuple[Language, ...], Strict(False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=False)


class RopeScalingConfig(_Section):
    """Llama 3's stretching of the rotary positions to contexts longer than they were trained on."""

    factor: Annotated[float, Field(ge=1)] = Field(description="wavelengths beyond the original context times this")
    low_freq: Annotated[float, Field(gt=0)] = Field(1.0, description="turns in `original` up to which all is stretched")
    high_freq: Annotated[float, Field(gt=0)] = Field(4.0, description="turns in `original` from which nothing is")
    original: Count = Field(8192, description="context the positions were trained on, in tokens")


class MoeConfig(_Section):
    """A mixture of experts in place of the feed-forward."""

    experts: Count = Field(description="networks that the router chooses from")
    active: Count = Field(description="networks a token is sent to")
    ffn: Count = derived("hidden size of one expert")
    shared: int = Field(1, ge=0, description="experts that every token passes besides")
    dense: int = Field(1, ge=0, description="first layers that keep the ordinary feed-forward")
    scale: Annotated[float, Field(gt=0)] = Field(1.0, description="factor on the weights of the chosen (K-EXAONE: 2.5)")
    normalize: bool = Field(True, description="bring the weights of the chosen to sum 1 first")
    groups: Count = Field(1, description="groups of experts, of which the best are chosen first")
    group_active: Count = Field(1, description="groups chosen")


class MtpConfig(_Section):
    """A head that predicts the token after the next, for training and for drafts."""

    window: Count | None = Field(None, description="keys its attention sees; all when left out")
    rope: bool = Field(True, description="rotary positions in its attention")


class VisionConfig(_Section):
    """A vision tower, and the merger that hands its features to the decoder."""

    layers: Count = Field(description="transformer blocks")
    width: Count = Field(description="size of the tower's stream")
    heads: Count = Field(description="query heads")
    kv_heads: Count = Field(description="key/value heads")
    ffn: Count = Field(description="hidden size of its SwiGLU")
    full: Annotated[tuple[int, ...], Strict(False)] = Field(description="blocks that see the whole image")
    image_token: int = derived("id of the token whose places take the image's features", ge=0)
    video_token: int = Field(-1, description="the same for frames of a video; -1 for none")
    patch: Count = Field(14, description="side of a patch in pixels")
    temporal_patch: Count = Field(2, description="frames in a patch")
    merge: Count = Field(2, description="merge x merge patches become one token")
    window: Count = Field(112, description="side of the attention window in pixels")
    channels: Count = Field(3, description="colour channels")
    norm_eps: Annotated[float, Field(gt=0)] = Field(1e-6, description="epsilon of its RMSNorms")


class ModelConfig(_Section):
    """The shape of the decoder."""

    pattern: str = Field(
        "LLLG", description="layer kinds, repeated over the layers: L local (window), G global", pattern="^[LG]+$"
    )
    layers: Count = derived("number of layers")
    width: Count = derived("size of the residual stream")
    head_dim: Count = derived("size of one attention head; free of width / heads")
    heads: Count = derived("query heads")
    kv_heads: Count = derived("key/value heads (grouped-query attention)")
    ffn: Count = derived("hidden size of the feed-forward block")
    context: Count = derived("longest sequence the model is meant for, in tokens")
    window: Count | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Strict(False)] | None = derived(
        "keys a local layer sees, the query's own included; or a list with a number for every layer, 0 = global"
    )
    activation: Literal["swiglu", "relu2"] = Field("swiglu", description="feed-forward non-linearity")
    norm: Literal["post", "pre"] = Field("post", description="norm after each block (EXAONE 4.0) or before it")
    qk_norm: bool = Field(True, description="RMSNorm over head_dim on queries and keys")
    norm_eps: Annotated[float, Field(gt=0)] = Field(1e-5, description="epsilon of every RMSNorm")
    rope: Literal["local", "all"] = Field("local", description="rotary positions on local layers only, or on all")
    rope_theta: Annotated[float, Field(gt=1)] = Field(10000.0, description="base of the rotary frequencies")
    rope_scaling: RopeScalingConfig | None = Field(None, description="stretched rotary positions")
    tied: bool = Field(False, description="output head shares the embedding's weights")
    clamp: Annotated[tuple[Rate, ...], Strict(False)] = Field((), description="limit of SwiGLU by layer, 0 = none")
    moe: MoeConfig | None = Field(None, description="a mixture of experts")
    mtp: MtpConfig | None = Field(None, description="a head that predicts two tokens ahead")
    vision: VisionConfig | None = Field(None, description="a vision tower")


class TokenizerConfig(_Section):
    """The byte-level BPE trained on the corpus."""

    vocab: Count = derived("entries, special tokens and the 256 bytes included")
    sample_mb: Annotated[float, Field(gt=0)] = Field(16.0, description="text the merges are learned from, in MB")


class SourceConfig(_Section):
    """One source of the corpus: generated problems (`tasks`) or files of yours (`text`)."""

    kind: Literal["tasks", "text"] = Field(description="generated problems, or documents in files")
    name: str = Field(description="short name, unique in the recipe; names the shard folder", pattern=r"^[\w.-]+$")
    weight: Annotated[float, Field(gt=0)] = Field(1.0, description="share in the mixture, relative to others")
    path: str | None = Field(
        None, description="text: file, folder or glob, relative to the recipe; see data/sources.py"
    )
    text_key: str = Field("text", description="text: the JSON or parquet field that holds the text")
    limit_mb: Annotated[float, Field(gt=0)] | None = Field(None, description="text: read no more MB of text")
    heldout: str | Share | None = Field(
        None, description="text: held-out files (a glob beside `path`), or a share of the documents"
    )
    language: Language | None = Field(None, description="text: language tag of the documents, for figures by language")
    tasks: Strings = Field(("all",), description="tasks: families, or all")
    problems: Count = derived("tasks: problems to generate, both languages together")
    levels: Annotated[tuple[Count, ...], Strict(False)] | None = Field(
        None, description="tasks: levels of difficulty; all when left out"
    )


class CorpusConfig(_Section):
    """What is read."""

    sources: Annotated[tuple[SourceConfig, ...], Strict(False)] = derived("each a [[corpus.sources]] table")


class LearningConfig(_Section):
    """What every training stage has. Shares (warmup, decay) are of the stage's steps."""

    seq_len: Count = derived("tokens in a row; documents are packed into rows")
    optimizer: Literal["muon", "adamw", "adafactor"] = derived(
        "of the hidden matrices, the rest being AdamW's; adafactor takes the embedding as well and needs least memory"
    )
    lr_matrix: Rate = derived("peak rate of the hidden matrices")
    lr_embed: Rate = derived("peak rate of AdamW for the embedding")
    lr_head: Rate = derived("peak rate of AdamW for the output head")
    lr_other: Rate = derived("peak rate of AdamW for norm gains and routers")
    weight_decay: Rate = derived("decoupled weight decay of the matrices")
    schedule: Literal["wsd", "cosine"] = Field("wsd", description="warm-up, stable, decay; or warm-up, cosine")
    warmup: Share = Field(0.02, description="share of the steps spent rising to the peak rate")
    decay: Share = derived("wsd: share of the steps spent falling, at the end")
    final_lr: Share = Field(0.05, description="last rate, as a share of the peak")
    clip: Rate = Field(1.0, description="largest gradient norm; 0 leaves it unclipped")
    balance_rate: Rate = derived("model.moe: how far a step moves the biases that choose experts, for an even load")
    balance_loss: Rate = derived("model.moe: weight of the loss that keeps the load of each document even")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="decay of averaged weights, if any")
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="arithmetic of the matrix products")
    compile: bool = Field(True, description="torch.compile where a compiler is found")
    checkpoint_every: Count = derived("steps between checkpoints")
    keep: Count = Field(2, description="checkpoints kept")
    eval_every: Count = derived("steps between held-out evaluations")


class TrainConfig(LearningConfig):
    """A stage that learns from documents or conversations."""

    tokens: Count = derived("tokens to train on, padding included")
    batch_tokens: Count = derived("tokens in one optimiser step; a multiple of seq_len")
    mtp_loss: Rate = derived("model.mtp: weight of the loss two tokens ahead; 0 leaves the head as it is")
    history_share: Share = Field(0.2, description="share of conversations that follow one or two earlier exchanges")
    think_share: Share = Field(0.6, description="share of conversations with a thought (EXAONE 4.0: 1.5 to 1)")

    @property
    def steps(self) -> int:
        """Optimiser steps: the tokens asked for, rounded up to whole batches."""
        return -(-self.tokens // self.batch_tokens)


class JudgeModelConfig(_Section):
    """A model behind an OpenAI-compatible endpoint that scores final answers."""

    url: str = Field(description="base URL, such as http://127.0.0.1:8000/v1")
    model: str = Field(description="name of the model there")
    key_env: str | None = Field(None, description="environment variable that holds the key, if it needs one")
    weight: Rate = Field(0.5, description="what its full score adds to the reward")


class AnswersConfig(LearningConfig):
    """A stage that learns from answers the model itself writes, and what is rewarded in them."""

    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="of the sampled answers")
    max_tokens: Count = derived("tokens of an answer, thought included")
    budget: Count = derived("tokens a thought may take before it is closed for the model")
    think_share: Share = Field(0.6, description="share of prompts that ask for a thought")
    concise: Rate = Field(0.1, description="added for the shortest right answer of a group, less for longer ones")
    format: Rate = Field(0.1, description="taken for a thought left empty, left open, closed by force or misplaced")
    language: Rate = Field(0.5, description="taken for letters of a script that is not the question's")
    overlong: Rate = derived("taken, at most, from answers near max_tokens (DAPO); 0 takes nothing")
    overlong_cache: Count = derived("last tokens before max_tokens over which that grows")
    judge: JudgeModelConfig | None = Field(None, description="a judge model's score, added to the reward")


class PreferenceConfig(AnswersConfig):
    """Better and worse answers of the model's own, in two stages (EXAONE 4.0)."""

    objective: Literal["dpo", "ipo", "simpo", "orpo", "kto", "simper", "grouper"] = Field(
        "simper", description="the loss; docs/objectives.md has the formulas"
    )
    prompts: Count = Field(1000, description="prompts to answer")
    samples: Annotated[int, Field(ge=2)] = Field(4, description="answers per prompt (EXAONE 4.0: 4 to 16)")
    batch_pairs: Count = Field(64, description="pairs (or answers of the group objectives, halved) in one step")
    epochs: Count = Field(1, description="times every pair is seen")
    reuse_share: Share = Field(0.25, description="share of the first stage's pairs shown again in the second")
    beta: Rate = derived("DPO, IPO, SimPO, KTO: how much a difference counts")
    gamma: Rate = derived("SimPO: margin between better and worse")
    weight: Rate = Field(0.1, description="ORPO: weight of the odds ratio beside the likelihood")
    desirable_weight: Rate = Field(1.0, description="KTO: weight of good answers")
    undesirable_weight: Rate = Field(1.0, description="KTO: weight of bad answers")


class RlConfig(AnswersConfig):
    """Online reinforcement learning with verifiable rewards."""

    algorithm: Literal["rloo", "grpo", "dr_grpo", "dapo", "gspo", "cispo", "agapo_sequence", "agapo_token"] = Field(
        "agapo_token", description="the objective; docs/objectives.md has the formulas"
    )
    steps: Count = Field(100, description="optimiser steps")
    prompts: Count = Field(64, description="prompts answered for one round of answers")
    group: Annotated[int, Field(ge=2)] = Field(8, description="answers per prompt")
    updates: Count = Field(1, description="optimiser steps on one round of answers")
    rounds: Count = derived("rounds of sampling a step may take to replace dropped groups")
    advantage: Literal["loo", "group", "center", "global"] = derived("how a reward becomes an advantage")
    drop: Literal["all", "zero_variance", "all_correct"] = derived("which groups are kept; `all` keeps every one")
    all_wrong: Literal["literal", "offset", "global_mean"] = Field(
        "literal", description="AGAPO: what groups without a right answer get"
    )
    all_wrong_advantage: Rate = Field(0.5, description="all_wrong = offset: the size of their negative advantage")
    std: Literal["batch", "none"] = Field("batch", description="AGAPO: divide advantages by their deviation, or not")
    clip_low: Rate = derived("ratio bound below 1")
    clip_high: Rate = derived("ratio bound above 1")
    tis_cap: Rate = derived("cap of the truncated importance weight")
    kl_beta: Rate = derived("weight of the KL to the model the stage starts from")
    freeze_router: bool = Field(True, description="routers of a mixture of experts keep their weights (K-EXAONE)")
    pool: int = Field(0, ge=0, description="problems drawn once and used again and again; 0 draws new ones each step")
    prefilter: int = Field(8, ge=0, description="with a pool: drop problems right this many times of as many")
    curriculum: bool = Field(True, description="prefer (task, level) pairs that succeed half of the time")
    eval_per_cell: int = Field(
        0, ge=0, description="held-out problems per task, level, language every eval_every steps"
    )


class JudgeConfig(_Section):
    """How the finished model is examined."""

    tasks: Strings = Field(("all",), description="families, or all")
    languages: Languages = Field(("ko", "en"), description="languages asked in")
    per_cell: Count = Field(10, description="problems per family, level and language")
    repeats: Count = Field(1, description="answers per problem and mode; pass@k needs k of them")
    temperature: Rate = Field(0.0, description="0 answers greedily")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="nucleus kept when sampling")
    max_tokens: Count = derived("tokens of an answer, thought included")
    budget: Count = derived("tokens a thought may take before it is closed for the model")
    modes: Annotated[tuple[Literal["think", "direct"], ...], Strict(False)] = Field(
        ("think", "direct"), description="thinking first, or answering at once"
    )
    batch: Count = Field(64, description="problems in flight at a time")


class LoraConfig(_Section):
    """Low-rank pairs (arXiv 2106.09685) trained in place of the weights, in every stage that learns."""

    rank: Count = Field(16, description="rank of a pair")
    alpha: Annotated[float, Field(gt=0)] = derived("a pair adds alpha / rank times its product")
    targets: Annotated[tuple[Literal["qkv", "out", "up", "down"], ...], Strict(False)] = Field(
        ("qkv", "out", "up", "down"), description="matrices of a layer that have pairs", min_length=1
    )
    lr: Rate = Field(2e-4, description="peak rate of AdamW for the pairs")


class ReleaseConfig(_Section):
    """What the release says of itself."""

    name: str = derived("name of the release")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="of the released matrices")
    licence: str = Field("Apache-2.0", description="SPDX expression of the weights' licence")
    authors: Strings = Field((), description="who built it")


class Recipe(_Section):
    """A whole road. A section of the road that is left out ([context], say) is a stage that is not walked."""

    name: str = Field(description="name of the run folder")
    init: str | None = Field(None, description="folder of a release, a run or an official checkpoint to start from")
    scale: Count = Field(description="the one dial: layers, from which width, heads, rates, batch and tokens follow")
    seed: Seed = Field(0, description="every random choice follows from it")
    language: Language = Field("en", description="language of the printed pages")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one")
    threads: Count | None = Field(None, description="CPU threads; all cores when left out")
    model: ModelConfig = Field(default_factory=ModelConfig)
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    corpus: CorpusConfig = Field(default_factory=CorpusConfig)
    lora: LoraConfig | None = Field(None, description="train low-rank pairs, not the checkpoint's weights")
    pretrain: TrainConfig | None = Field(None, description="next-token training on the whole mixture")
    context: TrainConfig | None = Field(None, description="further training on longer rows")
    sft: TrainConfig | None = Field(None, description="conversations, thinking and at once, in one model")
    preference: PreferenceConfig | None = Field(None, description="better and worse answers of its own")
    rl: RlConfig | None = Field(None, description="online reinforcement learning with exact graders")
    judge: JudgeConfig = Field(default_factory=JudgeConfig)
    release: ReleaseConfig = Field(default_factory=ReleaseConfig)

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, name: str) -> str:
        if not re.fullmatch(r"[\w][\w.-]*", name):
            raise ValueError(f"{name!r} names a folder: use letters, digits, '.', '_' and '-'")
        return name
