"""Official checkpoint layouts: a folder of config.json + safetensors to a Decoder and back.

| layout     | models                              | file             |
|------------|-------------------------------------|------------------|
| exaone     | 3.0, 3.5, Deep                      | `exaone.py`      |
| llama      | copies of those under Llama's names | `llama.py`       |
| qwen2      | Qwen2, Qwen2.5                      | `qwen2.py`       |
| exaone4    | 4.0; our own post-norm models       | `exaone4.py`     |
| exaone4_5  | 4.5: text, images, two tokens ahead | `exaone4_5.py`   |
| exaone_moe | K-EXAONE, K-EXAONE 2.0              | `exaone_moe.py`  |

Each is a config reader and writer and a `Names`; `names.py` turns those into a list of tensors, `weights.py` moves
them, `files.py` knows the bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dokja.errors import CheckpointError, ConfigError
from dokja.model.families.layout import Layout, refuse
from dokja.model.families.names import places
from dokja.model.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dokja.model.decoder import Decoder
    from dokja.model.families.weights import Dtype

_CONFIG = "config.json"
FAMILIES = ("exaone", "llama", "qwen2", "exaone4", "exaone4_5", "exaone_moe")
_EARLY = {"exaone4_5_text": "exaone4", "exaonemoe": "exaone_moe"}  # model_type, lower case, before release


def layout_of(model_type: object) -> Layout:
    """The layout that a config.json names. CheckpointError for one that dokja does not know."""
    name = _EARLY.get(str(model_type).lower(), model_type)
    if name not in FAMILIES:
        raise CheckpointError(
            f"config.json says model_type {model_type!r}, for which dokja has neither a config reader nor a map of "
            f"tensor names; it reads {', '.join(FAMILIES)}. Use a newer dokja, or convert the folder to one of these."
        )
    return cast(Layout, import_module(f"dokja.model.families.{name}"))


def family_of(spec: ModelSpec) -> str:
    """The layout in which a spec is released. ConfigError naming the key to change where no layout can say it."""
    if spec.activation != "swiglu":
        raise refuse("official", "activation", spec.activation, "Set model.activation = 'swiglu' to release the model.")
    if spec.norm == "post":
        if not spec.qk_norm:
            raise refuse("exaone4", "qk_norm", False, "Set model.qk_norm = true to release a post-norm model.")
        return "exaone4_5" if spec.vision else "exaone4"
    if spec.qkv_bias:
        return "qwen2"
    if not spec.qk_norm and (spec.moe or spec.mtp or "L" in spec.layer_pattern):
        raise refuse("exaone", "qk_norm", False, "Set model.qk_norm = true to release a pre-norm model with experts, "
                     "local layers or a multi-token head.")  # fmt: skip
    return "exaone_moe" if spec.qk_norm else "exaone"


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a folder. CheckpointError where there is none."""
    path = Path(folder) / _CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no config.json: it is not a release or a checkpoint folder.") from None
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is not JSON: the folder is damaged. Copy it again from its source.")
    return config


def spec_of(config: Mapping[str, Any], mtp: bool | None = None) -> ModelSpec:
    """The spec of a config.json (no torch). `mtp`: whether the file beside it has a multi-token head; None takes the
    config's word. CheckpointError for a layout, key or value that is not what it should be."""
    try:
        return layout_of(config.get("model_type")).spec_from(config, mtp)
    except ConfigError as error:  # what ModelSpec refuses is the checkpoint's fault here
        raise CheckpointError(f"config.json describes a model that cannot be: {error}") from None


def load_model(folder: Path, dtype: Dtype = None) -> Decoder:
    """The Decoder (CPU) behind an official folder, of whatever family its config.json names.

    dtype: None gives fp32 masters to train, "auto" keeps matrices in the dtype of the file, a torch dtype casts them;
    gains and the router's correction bias are fp32 always. Raises CheckpointError for a layout, key, tensor or file
    that is not what it should be; a model is returned whole or not at all.
    """
    from dokja.model.families import weights

    return weights.load(weights.open_checkpoint(Path(folder)), dtype)


def export(
    spec: ModelSpec,
    weights: Mapping[str, Tensor],
    folder: Path,
    special: Mapping[str, int],
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int | None = 5_000_000_000,
    family: str | None = None,
    fused: bool = False,
) -> None:
    """Writes config.json and weights (our names) into `folder`, in the layout that fits the spec, or in `family`.

    special: ids of bos, eos and pad. dtype: of all tensors but the router's correction bias (fp32); None takes the
    embedding's. shard_bytes: see `files.write_folder`. fused: the experts of a layer in one tensor.
    ConfigError where the layout cannot say the spec.
    """
    from dokja.model.families import weights as moving

    layout = layout_of(family or family_of(spec))
    dtype = dtype or weights["embed"].dtype
    config = layout.config_from(spec, special)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    moving.write(
        places(spec, layout.NAMES, fused), shapes, weights.__getitem__, Path(folder), moving.kept(dtype), shard_bytes
    )
    write_config(Path(folder), config, dtype)


def convert(
    source: Path,
    target: Path,
    *,
    family: str | None = None,
    fused: bool = False,
    dtype: torch.dtype | None = None,
    shard_bytes: int | None = 5_000_000_000,
) -> None:
    """Writes the checkpoint in `source` to `target` in another naming, without building a model: into `family` (its own
    when None), experts one by one or `fused`, in `dtype` (each tensor's own when None).

    Tokenizer and other small files come along; remote code does not. Memory: one parameter of ours, which is at most
    the experts of one layer. CheckpointError for a source that is not whole, ConfigError for a family that cannot say
    it.
    """
    from dokja.model.families import weights as moving

    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise ConfigError(f"{source} cannot be converted onto itself. Name another folder.")
    opened = moving.open_checkpoint(source)
    layout = layout_of(family or opened.config["model_type"])
    ids = {**opened.config.get("text_config", {}), **opened.config}
    special = {
        name: ids[f"{name}_token_id"] for name in ("bos", "eos", "pad") if ids.get(f"{name}_token_id") is not None
    }
    config = layout.config_from(opened.spec, special)
    get, kinds = moving.parameters_of(opened), moving.dtypes_of(opened)
    keep = moving.kept(dtype) if dtype else lambda place: kinds[place.ours]
    moving.write(places(opened.spec, layout.NAMES, fused), opened.shapes, get, target, keep, shard_bytes)
    for file in source.iterdir():
        if file.is_file() and file.name != _CONFIG and not {".safetensors", ".bin", ".py"} & set(file.suffixes):
            shutil.copyfile(file, target / file.name)
    write_config(target, config, dtype or kinds["embed"])


def write_config(folder: Path, config: Mapping[str, Any], dtype: torch.dtype) -> None:
    """config.json, written last: a folder that has one is whole."""
    text = json.dumps({**config, "dtype": str(dtype).removeprefix("torch.")}, indent=2)
    (folder / _CONFIG).write_text(text + "\n", encoding="utf-8")
