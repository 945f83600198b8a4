"""An endpoint: one model at an address that speaks OpenAI's API, as a row of a table.

| key | is |
|---|---|
| base_url | what ends in /v1 |
| model | the name that requests call the model by |
| key_env, key_file | where its key stands; the key itself never stands in a table or a record |
| reasoning | where thoughts come: `reasoning_content`, `reasoning`, `inline` (tags in the content), `none`, `auto` |
| thinking | what turns them on and off: `enable_thinking` (in chat_template_kwargs), `reasoning_effort`, `none` |
| budget | the field that closes a thought after so many tokens, where there is one |
| length | the field that bounds an answer, thought included |
| prices | of a million tokens: input, cached_input, output, in `currency` |
| residency | where what is sent there is processed and kept |
| concurrency, requests_per_minute, tokens_per_minute | how much it takes at once and in a minute |
| timeout | seconds to wait for an answer, or between two parts of a stream |

A table is a TOML file with one such table per endpoint, headed by its name: `[local]`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dokja.errors import ConfigError
from dokja.judge.speed import cost
from dokja.text.chat import Mode

Reasoning = Literal["auto", "reasoning_content", "reasoning", "inline", "none"]
Thinking = Literal["enable_thinking", "reasoning_effort", "none"]


class Prices(BaseModel):
    """Of a million tokens, in `currency`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached_input: float | None = Field(None, ge=0, allow_inf_nan=False)
    currency: str = "USD"

    def of(self, prompt: int, completion: int, cached: int = 0) -> float:
        """What so many tokens cost; thoughts are output, `cached` are of the prompt."""
        return cost(prompt, completion, self.input, self.output, min(cached, prompt), self.cached_input)


class Endpoint(BaseModel):
    """See the table above."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    base_url: str
    model: str = Field(min_length=1)
    key_env: str | None = None
    key_file: Path | None = None
    reasoning: Reasoning = "auto"
    thinking: Thinking = "none"
    budget: str | None = None
    length: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    prices: Prices | None = None
    residency: str = ""
    concurrency: int = Field(16, ge=1, le=4096)
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    timeout: float = Field(1200.0, gt=0)

    @property
    def url(self) -> str:
        """How a person types it, and what records call the model."""
        return f"{self.base_url}#{self.model}"

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that it can be asked in. Where nothing turns thoughts on or off there is one: with them where the
        table says how they come, else at once."""
        if self.thinking != "none":
            return ("think", "direct")
        return ("think",) if self.reasoning in ("reasoning_content", "reasoning", "inline") else ("direct",)

    def switch(self, thinking: bool) -> dict[str, Any]:
        """What a request says to be answered with a thought, or without."""
        if self.thinking == "enable_thinking":
            return {"chat_template_kwargs": {"enable_thinking": thinking}}
        return {"reasoning_effort": "high" if thinking else "none"} if self.thinking == "reasoning_effort" else {}

    def key(self) -> str | None:
        """The key itself. Raises ConfigError where the place named holds none."""
        if self.key_env is not None:
            if found := os.environ.get(self.key_env, "").strip():
                return found
            raise ConfigError(
                f"The environment variable {self.key_env} holds no key for {self.name}. Set it: export {self.key_env}=…"
            )
        if self.key_file is not None:
            try:
                if found := self.key_file.expanduser().read_text(encoding="utf-8").strip():
                    return found
            except (OSError, UnicodeDecodeError):
                pass
            raise ConfigError(f"{self.key_file} holds no key for {self.name}. Write it there, and nothing else.")
        return None


def is_endpoint(text: str) -> bool:
    """Whether MODEL is the address of an endpoint."""
    return text.startswith(("http://", "https://"))


def read_endpoint(text: str, table: str | Path | None = None, **more: Any) -> Endpoint:
    """The endpoint that `text` names: `http://host:port/v1#model`, or a row of `table`. `more` are keys that win over
    the row's. Raises ConfigError for one that cannot be meant, and for keys that mean nothing."""
    given = {k: v for k, v in more.items() if v is not None}
    if is_endpoint(text):
        address, sign, model = text.partition("#")
        if not sign or not model:
            raise ConfigError(f"{text} names no model. Write it behind a #: {address.rstrip('/')}#model-name.")
        return _checked(model, {"base_url": address, "model": model, **given}, "The command line")
    if table is None:
        raise ConfigError(f"There is no endpoint {text!r}. Give http://host:port/v1#model, or a table: --endpoints.")
    rows = read_table(table)
    if text not in rows:
        near = difflib.get_close_matches(text, rows, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(rows)}."
        raise ConfigError(f"{table} has no endpoint {text!r}. {hint}")
    return _checked(text, {**rows[text], **given}, str(table))


def read_table(path: str | Path) -> dict[str, dict[str, Any]]:
    """The rows of a table by their names, unchecked. Raises ConfigError for a file that is none."""
    try:
        raw = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}). Give a TOML file with a table per endpoint.") from error
    if not raw or not all(isinstance(row, dict) for row in raw.values()):
        raise ConfigError(f"{path} must hold a table per endpoint: a line [its-name], then base_url and model.")
    return raw


def _checked(name: str, row: dict[str, Any], where: str) -> Endpoint:
    for kind, keys, there in ((Endpoint, row, "an endpoint"), (Prices, row.get("prices"), "`prices`")):
        known = [k for k in kind.model_fields if k != "name"]
        for key in keys if isinstance(keys, dict) else ():
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known)}."
                raise ConfigError(f"{where}, {name}: {key!r} means nothing in {there}. {hint}")
    try:
        found = Endpoint.model_validate({"name": name, **row})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{where}, {name}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    parts = urlsplit(found.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ConfigError(
            f"{where}, {name}: {found.base_url!r} is no address of an API. Give one such as http://127.0.0.1:8000/v1, "
            "and the key by key_env or key_file."
        )
    if found.key_env is not None and found.key_file is not None:
        raise ConfigError(f"{where}, {name}: key_env and key_file both name a key. Leave one out.")
    return found.model_copy(update={"base_url": found.base_url.rstrip("/")})
