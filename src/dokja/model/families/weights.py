"""Weights between official files and our parameters, one tensor at a time.

Nothing is loaded before names and shapes of the whole checkpoint are known to fit; then every tensor is read straight
into the parameter it belongs to. Peak memory is the parameters and a few megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dokja.errors import CheckpointError
from dokja.model.decoder import Decoder
from dokja.model.families import layout_of, read_config, spec_of
from dokja.model.families.files import SHARD_BYTES, Draft, Stored, read_folder, write_folder
from dokja.model.families.names import DERIVED_SUFFIXES, Place, canonical, places
from dokja.model.spec import ModelSpec

Dtype = torch.dtype | Literal["auto"] | None
Shape = tuple[int, ...]
FP32_ALWAYS = "router_bias"  # moved in steps far below what bf16 can hold
_FUSED = ".experts.gate_up_proj"


@dataclass(frozen=True)
class Checkpoint:
    """A folder whose tensors are known to be those that its config.json describes."""

    config: Mapping[str, Any]
    spec: ModelSpec
    stored: Mapping[str, Stored]
    """by official name"""
    by_parameter: Mapping[str, list[Place]]
    empty: Decoder
    """on the meta device"""

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of each of our parameters."""
        return {name: tuple(p.shape) for name, p in self.empty.named_parameters()}

    def read_into(self, name: str, target: Tensor) -> Tensor:
        """Fills `target` with our parameter `name`, tensor by tensor; returns it."""
        for place in self.by_parameter[name]:
            self.stored[place.theirs].read_into(part(target, place))
        return target


def on_meta(spec: ModelSpec) -> Decoder:
    """A Decoder without memory: names and shapes."""
    with torch.device("meta"):
        return Decoder(spec)


def part(tensor: Tensor, place: Place) -> Tensor:
    """The view of our parameter that is this tensor of theirs."""
    view = tensor[place.index] if place.index else tensor
    return view.view(place.shape) if place.shape else view


def open_checkpoint(folder: Path) -> Checkpoint:
    """Reads config.json and the headers of all files. CheckpointError for a tensor that is missing, foreign or of
    another shape, and for all that `read_folder` and `spec_of` refuse."""
    config = read_config(folder)
    # A tensor without numbers, such as transformers' shared experts where there are none, says nothing.
    stored = {
        canonical(name): s
        for name, s in read_folder(folder).items()
        if not name.endswith(DERIVED_SUFFIXES) and 0 not in s.shape
    }
    spec = spec_of(config, mtp=any(name.startswith("mtp.") for name in stored))
    names = layout_of(config["model_type"]).NAMES
    wanted = list(places(spec, names, fused=any(name.endswith(_FUSED) for name in stored)))
    if spec.tied and (head := f"{names.head}.weight") in stored:
        _drop_copy(stored, head, f"{names.embed}.weight", folder)
    return checked(config, spec, stored, wanted, folder)


def checked(
    config: Mapping[str, Any],
    spec: ModelSpec,
    stored: Mapping[str, Stored],
    wanted: list[Place],
    folder: Path,
    describing: str = "config.json",
) -> Checkpoint:
    """The checkpoint of these tensors. CheckpointError, naming what describes them, where they are not those that are
    `wanted`."""
    empty = on_meta(spec)
    _check(wanted, stored, dict(empty.named_parameters()), folder, describing)
    by_parameter: dict[str, list[Place]] = {}
    for place in wanted:
        by_parameter.setdefault(place.ours, []).append(place)
    return Checkpoint(config, spec, stored, by_parameter, empty)


def _drop_copy(stored: dict[str, Stored], head: str, embed: str, folder: Path) -> None:
    """Takes the output matrix of a tied model out of the list, where the file has one and it equals the embedding."""
    if embed in stored and not torch.equal(stored[head].read(), stored[embed].read()):
        raise CheckpointError(
            f"{folder}: config.json ties the output matrix to the embedding, but {head} differs from it. Set "
            "tie_word_embeddings to false there if the model has an output matrix of its own."
        )
    del stored[head]


def _check(
    wanted: Iterable[Place],
    stored: Mapping[str, Stored],
    parameters: Mapping[str, Tensor],
    folder: Path,
    describing: str,
) -> None:
    by_name = {place.theirs: place for place in wanted}
    if foreign := sorted(set(stored) - set(by_name)):
        raise CheckpointError(
            f"{folder} holds {len(foreign)} tensors that {describing} does not describe: {foreign[:4]}."
        )
    if missing := [name for name in by_name if name not in stored]:
        raise CheckpointError(f"{folder} lacks {len(missing)} tensors, the first {missing[0]}: it is not complete.")
    for theirs, place in by_name.items():
        shape = tuple(part(parameters[place.ours], place).shape)
        if stored[theirs].shape != shape:
            raise CheckpointError(f"{theirs} has shape {list(stored[theirs].shape)}, {describing} says {list(shape)}.")


def load(checkpoint: Checkpoint, dtype: Dtype) -> Decoder:
    """The checkpoint's model with memory and weights.

    dtype: of the matrices; None = fp32, "auto" = as stored. Gains, biases and the router's correction are fp32 always.
    """
    model, kinds = checkpoint.empty, dtypes_of(checkpoint)
    for name, empty in list(model.named_parameters()):
        kind = torch.float32 if empty.ndim < 2 else kinds[name] if dtype == "auto" else dtype or torch.float32
        values = checkpoint.read_into(name, torch.empty(empty.shape, dtype=kind))
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(values, requires_grad=empty.requires_grad))
    return model


def dtypes_of(checkpoint: Checkpoint) -> dict[str, torch.dtype]:
    """The dtype that holds each of our parameters as the file has it."""
    return {
        name: reduce(torch.promote_types, (checkpoint.stored[place.theirs].dtype for place in own))
        for name, own in checkpoint.by_parameter.items()
    }


def parameters_of(checkpoint: Checkpoint) -> Callable[[str], Tensor]:
    """Our parameters read on demand; the last one is remembered, since its tensors are asked for in a row."""
    kinds, shapes = dtypes_of(checkpoint), checkpoint.shapes
    last: dict[str, Tensor] = {}

    def get(name: str) -> Tensor:
        if name not in last:
            last.clear()
            last[name] = checkpoint.read_into(name, torch.empty(shapes[name], dtype=kinds[name]))
        return last[name]

    return get


def kept(dtype: torch.dtype) -> Callable[[Place], torch.dtype]:
    """`dtype` for every tensor but the correction biases, which stay fp32."""
    return lambda place: torch.float32 if place.ours.endswith(FP32_ALWAYS) else dtype


def write(
    wanted: Iterable[Place],
    shapes: Mapping[str, Shape],
    get: Callable[[str], Tensor],
    folder: Path,
    dtype: Callable[[Place], torch.dtype],
    shard_bytes: int | None = SHARD_BYTES,
) -> None:
    """Writes our parameters, which `get` gives, as the tensors `wanted`, each in the dtype that `dtype` names."""

    def make(place: Place) -> Tensor:
        return part(get(place.ours), place)

    def drafts() -> Iterator[Draft]:
        for place in wanted:
            shape = part(torch.empty(shapes[place.ours], device="meta"), place).shape
            yield Draft(place.theirs, dtype(place), tuple(shape), partial(make, place))

    write_folder(folder, drafts(), shard_bytes)
