"""What a person writes: TOML schema, layering, derivation, errors in sentences. Nothing here loads torch."""

from dokja.recipe.derive import Derived
from dokja.recipe.load import explain_recipe, load_recipe
from dokja.recipe.schema import (
    CorpusConfig,
    JudgeConfig,
    ModelConfig,
    Recipe,
    ReleaseConfig,
    SourceConfig,
    TokenizerConfig,
    TrainConfig,
)

__all__ = [
    "CorpusConfig",
    "Derived",
    "JudgeConfig",
    "ModelConfig",
    "Recipe",
    "ReleaseConfig",
    "SourceConfig",
    "TokenizerConfig",
    "TrainConfig",
    "explain_recipe",
    "load_recipe",
]
