"""`dokja plan`: what a recipe's shape costs on a mesh of devices."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dokja.cli.build import Sets

if TYPE_CHECKING:
    from dokja.model.plan.devices import Device
    from dokja.recipe.schema import Recipe

BATCH_TOKENS, SEQ, TOKENS = 4 * 2**20, 8192, 10**12
"""Of a recipe without stages, such as the published shapes."""
CPU_MFU = 0.4
"""Share of the measured peak of matrix products that training on a CPU reaches (bench/train_speed.py: 38 to 54 %)."""


def plan(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a TOML file.")],
    mesh: Annotated[str, typer.Option(help="How the work is divided, as dp=8,tp=4,pp=2,ep=8.")] = "dp=1",
    seq: Annotated[int | None, typer.Option(min=1, help="Tokens of a row; the recipe's first stage's.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a step; the first stage's.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of the whole training.")] = None,
    micro: Annotated[int | None, typer.Option(min=1, help="Rows of a micro batch; else what fits.")] = None,
    recompute: Annotated[
        bool | None, typer.Option("--recompute/--keep", help="Run layers again in the backward pass; else if needed.")
    ] = None,
    device: Annotated[str, typer.Option(help="h100, h200, a100, b200, or cpu: this machine, measured.")] = "h100",
    devices: Annotated[int | None, typer.Option(min=1, help="Devices there are; the mesh must take them all.")] = None,
    flops: Annotated[float | None, typer.Option(min=0.001, help="TFLOP/s of a device in place of the table's.")] = None,
    bandwidth: Annotated[float | None, typer.Option(min=0.001, help="GB/s of its memory.")] = None,
    memory: Annotated[float | None, typer.Option(min=0.001, help="GB of its memory.")] = None,
    link: Annotated[float | None, typer.Option(min=0.001, help="GB/s between devices, each direction.")] = None,
    mfu: Annotated[float | None, typer.Option(min=0.001, max=1.0, help="Share of FLOP/s that products reach.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Plan inference, not training.")] = False,
    sets: Sets = None,
    language: Annotated[str | None, typer.Option(help="Language of the tables, ko or en; else the locale's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Plan a shape on a mesh: memory, FLOPs, bytes moved and time of training, or the limits of inference."""
    from rich.console import Console

    from dokja.cli.plan_tables import Case, print_head, print_serving, print_training
    from dokja.cli.strings import pick_language
    from dokja.model.plan.fit import CPU_MICRO_TOKENS, MICRO_TOKENS, make_job, refuse_too_large
    from dokja.model.plan.memory import memory as memory_of
    from dokja.model.plan.mesh import Mesh, check, check_devices
    from dokja.model.plan.serve import refuse_too_large as refuse_to_serve
    from dokja.model.plan.serve import serving
    from dokja.model.plan.step import step
    from dokja.model.spec import ModelSpec

    filled = read(recipe, sets or [])
    spec = ModelSpec.from_dict({"vocab": filled.tokenizer.vocab, **filled.model.model_dump()})
    shared = Mesh.parse(mesh)
    check(spec, shared, serve)
    check_devices(shared, devices)
    used = choose_device(device, flops, bandwidth, memory, link, mfu, shared.devices)
    case = Case(filled.name, spec, shared, used, pick_language(language))
    console = Console(highlight=False)
    told: dict[str, Any] = {
        "recipe": filled.name, "mesh": asdict(shared), "devices": shared.devices, "device": asdict(used),
        "params": spec.params, "active_params": spec.active_params,
    }  # fmt: skip
    if serve:
        found = serving(spec, shared, used)
        told["serving"] = asdict(found)
    else:
        first, total = stages(filled, spec.context)
        row = seq or first[0]
        # a batch that nobody asked for gives way to the mesh
        whole = row * shared.dp
        batch = batch_tokens or max(1, round(first[1] / whole)) * whole
        most = CPU_MICRO_TOKENS if device == "cpu" else MICRO_TOKENS
        job = make_job(spec, shared, used, row, batch, micro, recompute, most)
        needed, taken = memory_of(spec, shared, job), step(spec, shared, job, used)
        told["training"] = {"job": asdict(job), "memory": asdict(needed) | {"total": needed.total}}
        told["training"]["step"] = asdict(taken) | {"seconds": taken.seconds, "worst": taken.worst}
    if as_json:
        import json

        print(json.dumps(told, indent=1))
    else:
        print_head(case, console)
        if serve:
            print_serving(case, found, console)
        else:
            asked = (tokens, "given") if tokens else (total, "recipe") if total else (TOKENS, "assumed")
            print_training(case, job, needed, taken, asked, console)
    if serve:
        refuse_to_serve(spec, shared, used)
    else:
        refuse_too_large(spec, shared, job, used, micro is not None or recompute is not None)


def read(path: Path, sets: list[str]) -> "Recipe":
    """The filled recipe; one that starts from a checkpoint has its shape."""
    from dokja.recipe.layers import read_layers
    from dokja.recipe.load import load_recipe

    if "init" not in read_layers(path, ())[0] and not any(text.startswith("init=") for text in sets):
        return load_recipe(path, sets)
    from dokja.road.start import explain

    return explain(path, sets)[0]


def stages(recipe: "Recipe", context: int) -> tuple[tuple[int, int], int]:
    """Row and batch of the first stage that learns from documents, and the tokens of all of them; of a recipe without
    any, what large models take, and 0."""
    found = [stage for stage in (recipe.pretrain, recipe.context, recipe.sft) if stage is not None]
    if not found:
        return (min(SEQ, context), BATCH_TOKENS), 0
    return (found[0].seq_len, found[0].batch_tokens), sum(stage.tokens for stage in found)


def choose_device(
    name: str,
    flops: float | None,
    bandwidth: float | None,
    memory: float | None,
    link: float | None,
    mfu: float | None,
    count: int,
) -> "Device":
    """A device of the table, or this machine, with the numbers that were given in place of its own. ConfigError for
    several machines without a link."""
    from dokja.errors import ConfigError
    from dokja.model.plan.devices import find_device

    if name == "cpu" and count > 1 and link is None:
        raise ConfigError(
            f"--device cpu is this machine, and the mesh takes {count}. Say with --link how many GB/s they exchange."
        )
    found = this_machine() if name == "cpu" else find_device(name)
    return replace(
        found,
        flops=flops * 1e12 if flops else found.flops,
        bandwidth=bandwidth * 1e9 if bandwidth else found.bandwidth,
        memory=memory * 1e9 if memory else found.memory,
        link=link * 1e9 if link else found.link,
        network=link * 1e9 if link else found.network,
        mfu=mfu or found.mfu,
    )


def this_machine(seconds: float = 0.5) -> "Device":
    """This machine's CPU as a device: matrix products and memory measured, in the dtype the trainer would take."""
    import torch

    from dokja.ledger.environment import memory_bytes
    from dokja.model.plan.devices import Device
    from dokja.train.machine import gemm_peak, memory_bandwidth
    from dokja.train.optim import fast_bf16

    bf16 = fast_bf16(torch.device("cpu"))
    return Device(
        name="cpu",
        flops=gemm_peak(torch.bfloat16 if bf16 else torch.float32, "cpu", seconds) * 1e9,
        bandwidth=memory_bandwidth(seconds) * 1e9,
        memory=float(memory_bytes()),
        link=1.0,
        network=1.0,
        mfu=CPU_MFU,
        value_bytes=2 if bf16 else 4,
    )
