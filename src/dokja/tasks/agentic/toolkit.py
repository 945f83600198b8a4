"""Tools over a database: a method with `@tool` is one. Its parameters are JSON schemas, which are sent to the model and
which its arguments are checked against; whatever is wrong is a `ToolError`, whose sentence the caller reads."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeVar

Schema = dict[str, Any]
Rows = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])


class ToolError(Exception):
    """What a tool answers to a call that it cannot carry out. Its caller may mend the call and try again."""


@dataclass(frozen=True)
class Tool:
    """What is known of a tool besides its code."""

    name: str
    description: str
    parameters: Mapping[str, Schema]
    optional: frozenset[str]
    writes: bool
    """whether it may change the database"""

    @property
    def schema(self) -> Schema:
        """The declaration that OpenAI-compatible APIs take."""
        required = [name for name in self.parameters if name not in self.optional]
        parameters = {"type": "object", "properties": dict(self.parameters), "required": required}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


def tool(description: str, *, writes: bool = False, **parameters: Schema) -> Callable[[F], F]:
    """Makes a method of a toolkit a tool; `parameters` are its arguments' schemas by name. Those for which the method
    has a default may be left out."""

    def mark(method: F) -> F:
        own = signature(method).parameters.values()
        optional = frozenset(p.name for p in own if p.default is not p.empty)
        method.tool = Tool(method.__name__, description, parameters, optional, writes)  # type: ignore[attr-defined]
        return method

    return mark


def text(description: str, *choices: str) -> Schema:
    """A string, one of `choices` where there are any."""
    return {"type": "string", "description": description, **({"enum": list(choices)} if choices else {})}


def whole(description: str) -> Schema:
    """A whole number."""
    return {"type": "integer", "description": description}


def number(description: str) -> Schema:
    """Any finite number."""
    return {"type": "number", "description": description}


def texts(description: str) -> Schema:
    """A list of strings."""
    return {"type": "array", "items": {"type": "string"}, "description": description}


def fields(description: str, **properties: Schema) -> Schema:
    """One object, all of whose fields are needed."""
    return {"type": "object", "properties": properties, "required": list(properties), "description": description}


def several(description: str, **properties: Schema) -> Schema:
    """A list of such objects."""
    item = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "array", "items": item, "description": description}


def fit(schema: Schema, value: Any, where: str) -> Any:
    """`value` as the schema wants it: numbers that were written as text are read, fields that it does not know are
    dropped. Raises ToolError for anything else."""
    kind = schema["type"]
    if kind == "array":
        if not isinstance(value, list):
            raise ToolError(f"{where} must be a list, not {_shown(value)}.")
        return [fit(schema["items"], item, f"{where}[{n}]") for n, item in enumerate(value)]
    if kind == "object":
        if not isinstance(value, dict):
            raise ToolError(f"{where} must be an object, not {_shown(value)}.")
        if lacking := [name for name in schema["required"] if name not in value]:
            raise ToolError(f"{where} lacks {', '.join(lacking)}.")
        return {n: fit(s, value[n], f"{where}.{n}") for n, s in schema["properties"].items() if n in value}
    if kind == "string":
        if not isinstance(value, str):
            raise ToolError(f"{where} must be text, not {_shown(value)}.")
        if "enum" in schema and value not in schema["enum"]:
            raise ToolError(f"{where} must be one of {', '.join(schema['enum'])}, not {_shown(value)}.")
        return value
    return _number(value, kind == "integer", where)


def _number(value: Any, whole: bool, where: str) -> int | float:
    read = value
    if isinstance(value, str):
        try:
            read = float(value)
        except ValueError:
            read = None
    good = isinstance(read, int | float) and not isinstance(read, bool) and math.isfinite(read)
    if not good or (whole and read != int(read)):
        raise ToolError(f"{where} must be a {'whole ' if whole else ''}number, not {_shown(value)}.")
    return int(read) if whole or (isinstance(value, str) and read == int(read)) else read


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:80]


class Toolkit:
    """The tools of one side over its database, `self.db`."""

    def __init__(self, db: Rows) -> None:
        self.db = db

    @classmethod
    def tools(cls) -> dict[str, Tool]:
        """By name, in the order of the class."""
        found: dict[str, Tool] = {}
        for base in reversed(cls.__mro__):
            found |= {n: m.tool for n, m in vars(base).items() if isinstance(getattr(m, "tool", None), Tool)}
        return found

    @classmethod
    def schemas(cls) -> list[Schema]:
        """The declarations of all tools."""
        return [tool.schema for tool in cls.tools().values()]

    def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """What the tool gives back. Raises ToolError for an unknown tool, wrong arguments or a call that it refuses."""
        known = self.tools().get(name)
        if known is None:
            raise ToolError(f"There is no tool {name!r}.")
        if unknown := sorted(arguments.keys() - known.parameters.keys()):
            raise ToolError(f"{name} takes no {unknown[0]!r}; it takes {', '.join(known.parameters) or 'nothing'}.")
        lacking = [p for p in known.parameters if p not in arguments and p not in known.optional]
        if lacking:
            raise ToolError(f"{name} needs {', '.join(lacking)}.")
        return getattr(self, name)(**{p: fit(known.parameters[p], v, p) for p, v in arguments.items()})


class Desk(Toolkit):
    """What the agents of every domain can do."""

    @tool(
        "Hand the customer over to a human colleague. Only where the customer asks for one, or where policy and tools "
        "leave no way to help.",
        summary=text("What the customer needs, in short."),
    )
    def transfer_to_human_agents(self, summary: str) -> str:
        """Changes nothing: the conversation says the rest."""
        return "The customer was handed over."


class Calculator(Toolkit):
    """The arithmetic that agents of two domains are given."""

    @tool(
        "Work out an arithmetic expression.", expression=text("Numbers, + - * / and brackets, such as '2 * (3 + 4)'.")
    )
    def calculate(self, expression: str) -> str:
        """Rounded to two decimals."""
        from dokja.tasks.agentic.arithmetic import evaluate

        return str(round(evaluate(expression), 2))
