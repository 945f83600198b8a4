"""The mesh: how many ways each axis divides the work, and which divisions cannot be."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Self

from dokja.errors import ConfigError
from dokja.model.spec import ModelSpec


@dataclass(frozen=True)
class Mesh:
    """dp x tp x pp devices; ep groups of dp hold different experts."""

    dp: int = 1
    tp: int = 1
    pp: int = 1
    ep: int = 1

    @property
    def devices(self) -> int:
        """Devices that take part."""
        return self.dp * self.tp * self.pp

    @property
    def expert_dp(self) -> int:
        """Devices that share the state of the same experts."""
        return self.dp // self.ep

    def __str__(self) -> str:
        used = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) > 1]
        return ",".join(used) or "dp=1"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`dp=8,tp=4,pp=2,ep=8`; axes left out are 1. ConfigError for anything else."""
        axes: dict[str, int] = {}
        for word in filter(None, (w.strip() for w in text.split(","))):
            name, _, number = (w.strip() for w in word.partition("="))
            if name not in {f.name for f in fields(cls)} or not number.isdigit() or int(number) < 1:
                raise ConfigError(f"--mesh {text}: {word!r} is no axis. Write it as --mesh dp=8,tp=4,pp=2,ep=8.")
            if name in axes:
                raise ConfigError(f"--mesh {text} names {name} twice. Give each axis one number.")
            axes[name] = int(number)
        return cls(**axes)


def check(spec: ModelSpec, mesh: Mesh, serve: bool = False) -> None:
    """ConfigError, with what to write instead, where the mesh cannot divide the shape.

    serve: keys and values may be held by several devices, so that tp may exceed kv_heads.
    """
    widths = split_widths(spec, mesh.tp if serve else 0)
    if wrong := [name for name, n in widths.items() if n % mesh.tp]:
        near = " and ".join(map(str, nearest(math.gcd(*widths.values()), mesh.tp)))
        sizes = ", ".join(f"model.{name} ({widths[name]})" for name in wrong)
        raise ConfigError(f"tp={mesh.tp} does not divide {sizes}. The nearest that divide all that is split: {near}.")
    if mesh.pp > spec.layers:
        raise ConfigError(f"pp={mesh.pp} stages cannot share {spec.layers} layers. Set pp to {spec.layers} or less.")
    if mesh.ep == 1:
        return
    if spec.moe is None:
        raise ConfigError(f"ep={mesh.ep} spreads experts, and this model has none. Leave ep out.")
    if spec.moe.experts % mesh.ep:
        near = " and ".join(map(str, nearest(spec.moe.experts, mesh.ep)))
        raise ConfigError(f"ep={mesh.ep} does not divide the {spec.moe.experts} experts. The nearest that do: {near}.")
    if mesh.dp % mesh.ep:
        raise ConfigError(
            f"ep={mesh.ep} spreads experts over groups of dp={mesh.dp}: dp must be a multiple of ep. "
            f"Set dp={-(-mesh.dp // mesh.ep) * mesh.ep}."
        )


def check_devices(mesh: Mesh, devices: int | None) -> None:
    """ConfigError where the mesh does not take as many devices as there are."""
    if devices is not None and devices != mesh.devices:
        inside = mesh.tp * mesh.pp
        fix = f"dp={devices // inside}" if devices % inside == 0 else f"devices to a multiple of tp x pp = {inside}"
        raise ConfigError(
            f"the mesh takes dp x tp x pp = {mesh.dp} x {mesh.tp} x {mesh.pp} = {mesh.devices} devices, and there are "
            f"{devices}. Set {fix}."
        )


def split_widths(spec: ModelSpec, serve_tp: int = 0) -> dict[str, int]:
    """What tp divides: key -> number. With `serve_tp` a multiple of kv_heads, the keys are held several times."""
    widths = {"heads": spec.heads, "kv_heads": spec.kv_heads, "ffn": spec.ffn, "vocab": spec.vocab}
    if serve_tp and serve_tp % spec.kv_heads == 0:
        del widths["kv_heads"]
    if spec.moe:
        widths["moe.ffn"] = spec.moe.ffn
    return widths


def nearest(number: int, wanted: int) -> list[int]:
    """The divisors of `number` next below and next above `wanted`."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    below = [d for d in divisors if d <= wanted][-1:]
    return below + [d for d in divisors if d > wanted][:1]
