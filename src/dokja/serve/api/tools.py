"""Tools as clients declare and choose them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dokja.serve.api.body import Body, Loose
from dokja.serve.api.errors import ApiError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]


class Function(Loose):
    """A function that a model may call."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool; there are functions alone."""

    type: Literal["function"]
    function: Function

    def plain(self) -> dict[str, Any]:
        """The declaration as a template shows it."""
        return {"type": "function", "function": self.function.model_dump(exclude_none=True, exclude={"strict"})}


def tool_choice(choice: str | dict[str, Any] | None) -> str:
    """auto, none, required, or the name of a function. Raises ApiError for anything else."""
    if choice is None:
        return "auto"
    if isinstance(choice, str) and choice in ("auto", "none", "required"):
        return choice
    if isinstance(choice, dict) and choice.get("type") == "function":
        body = choice.get("function", choice)  # the Responses API has the name beside the type
        name = body.get("name") if isinstance(body, dict) else None
        if isinstance(name, str) and name not in ("auto", "none", "required"):
            return name
    raise ApiError(400, 'tool_choice is "auto", "none", "required", or a function by its name.', param="tool_choice")
