"""What every tool shares: schemas, the check of arguments, and that nothing a model writes raises anything else."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest
from agentic_small import airline_db, phone_db, retail_db, telecom_db
from hypothesis import given, settings
from hypothesis import strategies as st

from dokja.tasks.agentic.arithmetic import evaluate
from dokja.tasks.agentic.phone import Phone
from dokja.tasks.agentic.toolkit import ToolError, Toolkit, fit, number, several, text, whole
from dokja.tasks.agentic.world import DESKS, World

KITS: list[type[Toolkit]] = [*DESKS.values(), Phone]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KNOWN = ["ann_1", "AAA111", "HAT001", "2024-05-16", "gift_card_1", "bo_2", "#W1", "#W2", "11", "12", "C1", "L1", "B1"]


@pytest.mark.parametrize("kit", KITS)
def test_schemas_are_schemas_and_name_what_the_method_takes(kit: type[Toolkit]) -> None:
    for tool in kit.tools().values():
        jsonschema.Draft202012Validator.check_schema(tool.schema["function"]["parameters"])
        assert tool.description.endswith(".") and all(p.get("description") for p in tool.parameters.values())


def test_the_tools_are_the_benchmarks() -> None:
    assert [len(kit.tools()) for kit in KITS] == [14, 16, 13, 30]
    shared = {"transfer_to_human_agents"}
    assert shared <= DESKS["airline"].tools().keys() & DESKS["retail"].tools().keys() & DESKS["telecom"].tools().keys()


def _world(domain: str) -> World:
    databases = {"airline": airline_db, "retail": retail_db, "telecom": telecom_db}
    return World(domain, databases[domain](), phone_db() if domain == "telecom" else None)


@pytest.mark.parametrize("domain", DESKS)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_no_call_that_a_model_can_write_raises(domain: str, data: st.DataObject) -> None:
    world = _world(domain)
    for _ in range(6):
        side = data.draw(st.sampled_from(list(world.sides)))
        tool = data.draw(st.sampled_from(list(world.sides[side].tools().values())))
        given_ = {name: data.draw(_like(schema) | ANY) for name, schema in tool.parameters.items()}
        before = copy.deepcopy({s: kit.db for s, kit in world.sides.items()})
        said, refused = world.call(side, tool.name, given_)
        assert isinstance(said, str) and refused == said.startswith("Error: ")
        if refused or not tool.writes:
            assert {s: kit.db for s, kit in world.sides.items()} == before


def _like(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of the right form, often of the right content."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "array":
        return st.lists(_like(schema["items"]), max_size=2)
    if schema["type"] == "object":
        return st.fixed_dictionaries({name: _like(inner) for name, inner in schema["properties"].items()})
    if schema["type"] == "string":
        return st.sampled_from(KNOWN)
    return st.integers(-2, 300)


def test_arguments_are_read_leniently_and_kept_exactly() -> None:
    assert fit(whole("n"), "12", "n") == 12 and fit(whole("n"), 3.0, "n") == 3 and fit(number("n"), "2.5", "n") == 2.5
    people = several("people", name=text("name"))
    assert fit(people, [{"name": "a", "more": 1}], "people") == [{"name": "a"}]


@pytest.mark.parametrize(
    ("schema", "value", "says"),
    [
        (whole("n"), 1.5, "n must be a whole number, not 1.5"),
        (whole("n"), True, "not true"),
        (whole("n"), "x", 'not "x"'),
        (number("n"), float("nan"), "must be a number"),
        (number("n"), "inf", "must be a number"),
        (text("n"), 5, "n must be text, not 5"),
        (text("n", "a", "b"), "c", "one of a, b"),
        (several("n", x=whole("x")), {"x": 1}, "n must be a list"),
        (several("n", x=whole("x")), [1], r"n\[0\] must be an object"),
        (several("n", x=whole("x")), [{"x": "y"}], r"n\[0\].x must be a whole number"),
    ],
)
def test_arguments_that_do_not_fit_are_named(schema: dict[str, Any], value: Any, says: str) -> None:
    with pytest.raises(ToolError, match=says):
        fit(schema, value, "n")


@pytest.mark.parametrize(
    ("expression", "value"),
    [("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("-2.5 / 5", -0.5), ("2 ** 3", 8), ("7 // 2", 3), (" 4", 4)],
)
def test_sums_are_worked_out(expression: str, value: float) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    ["", "1 / 0", "9 ** 9 ** 9 ** 9", "(1", "1 2", "__import__('os')", "(-8) ** 0.5", "1" * 2000, "()", "1e5"],
)
def test_what_is_no_sum_is_refused_at_once(expression: str) -> None:
    with pytest.raises(ToolError):
        evaluate(expression)
