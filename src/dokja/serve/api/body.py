"""What the bodies of several paths share. Unknown fields are refused by name: a setting that is silently left out is
worse than an error. Fields of OpenAI's that change nothing here are taken and left alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dokja.engine.effort import Effort
from dokja.serve.asking import DRAWS

EFFORT: dict[str, Effort] = {
    "none": "none", "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high",
}  # fmt: skip
EffortName = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Count = Annotated[int, Field(ge=1, le=1 << 40)]
Seed = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class Body(BaseModel):
    """A body, or a part of one."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Loose(BaseModel):
    """A part of a body whose other fields mean nothing here."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Drawn(Body):
    """How tokens are drawn, and what every path takes and leaves alone."""

    model: str
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1 << 31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

    def draws(self) -> dict[str, float]:
        """What the client chose of `serve.asking.DRAWS`."""
        said = {name: value for name in DRAWS if (value := getattr(self, name)) is not None}
        if said.get("top_p") == 0:
            said["top_p"] = 1e-9  # OpenAI's 0 keeps the best token, as this does
        if said.get("top_k") == -1:
            said["top_k"] = 0
        return said


def stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """Stop strings; empty ones, which would end every answer, are left out."""
    listed = [stop] if isinstance(stop, str) else stop or []
    return tuple(dict.fromkeys(s for s in listed if s))


def bias(raw: dict[str, float] | None) -> tuple[tuple[int, float], ...]:
    """`logit_bias` by token id."""
    return tuple((int(token), value) for token, value in (raw or {}).items())


Bias = dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], Annotated[float, Field(ge=-100, le=100)]]
Stop = str | Annotated[list[str], Field(max_length=16)]
