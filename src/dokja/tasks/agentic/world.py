"""A database with its tools on both sides, and what ties them together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from dokja.errors import DataError
from dokja.tasks.agentic.airline import Airline
from dokja.tasks.agentic.phone import Phone
from dokja.tasks.agentic.retail import Retail
from dokja.tasks.agentic.telecom import Telecom
from dokja.tasks.agentic.toolkit import Rows, Schema, ToolError, Toolkit

Side = Literal["agent", "user"]
DESKS: dict[str, type[Toolkit]] = {"airline": Airline, "retail": Retail, "telecom": Telecom}
"""What the agent of each domain can do."""


class World:
    """One scenario's own copy of a domain's database; `user_db` is the phone of telecom's user, who alone has tools."""

    def __init__(self, domain: str, db: Rows, user_db: Rows | None = None) -> None:
        self.sides: dict[Side, Toolkit] = {"agent": DESKS[domain](db)}
        if user_db is not None:
            self.sides["user"] = Phone(user_db)

    def schemas(self, side: Side) -> list[Schema]:
        """The tools of a side; an empty list where it has none."""
        return self.sides[side].schemas() if side in self.sides else []

    def call(self, side: Side, name: str, arguments: Mapping[str, Any]) -> tuple[str, bool]:
        """(what the tool said, whether it is an error). Never raises for what a model may write."""
        if side not in self.sides:
            return "Error: There are no tools here.", True
        try:
            said = self.sides[side].call(name, arguments)
        except ToolError as error:
            return f"Error: {error}", True
        self.sync()
        return (said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)), False

    def set_up(self, state: Mapping[str, Any] | None) -> None:
        """Brings the database to where a scenario begins. DataError for one that this world cannot reach."""
        state = state or {}
        data = state.get("initialization_data") or {}
        for side, key in (("agent", "agent_data"), ("user", "user_data")):
            if data.get(key):
                _merge(self._kit(side).db, data[key])
        for action in state.get("initialization_actions") or ():
            self._run(action)
        self.sync()

    def holds(self, assertion: Mapping[str, Any]) -> bool:
        """Whether an assertion of the criteria is true of the end. DataError for one that is not known."""
        return bool(self._run(assertion)) == assertion.get("assert_value", True)

    def same_as(self, other: World) -> bool:
        """Whether both databases hold the same: no value and a missing one are the same, and so are 1 and 1.0."""
        return all(_same(kit.db, other.sides[side].db) for side, kit in self.sides.items())

    def sync(self) -> None:
        """What the company knows reaches the phone, and what was paid there reaches the company."""
        desk, phone = self.sides["agent"], self.sides.get("user")
        if not isinstance(desk, Telecom) or not isinstance(phone, Phone):
            return
        around = phone.around
        if (own := around.get("phone_number")) is None:
            return
        line = desk.line_of(own)
        around["line_active"] = line["status"] == "Active"
        around["roaming_allowed"] = line["roaming_enabled"]
        around["mobile_data_usage_exceeded"] = desk.used_up(line)
        request = around.get("payment_request")
        if request is not None and request["paid"]:
            desk.paid(request["bill_id"])
            request = around["payment_request"] = None
        if request is None and (bills := desk.awaiting(desk.get_customer_by_phone(own))):
            due = {"bill_id": bills[0]["bill_id"], "amount_due": bills[0]["total_due"], "paid": False}
            around["payment_request"] = due

    def _kit(self, side: str) -> Toolkit:
        name: Side = "user" if side == "user" else "agent"
        if name not in self.sides:
            raise DataError("This scenario speaks of the user's tools, and its domain gives the user none.")
        return self.sides[name]

    def _run(self, action: Mapping[str, Any]) -> Any:
        name = str(action["func_name"])
        kit = self._kit(action["env_type"])
        method: Callable[..., Any] | None = None if name.startswith("_") else getattr(kit, name, None)
        if not callable(method):
            raise DataError(
                f"This scenario needs {name!r}, which is not known here. Use the data of the pack's version."
            )
        try:
            found = method(**action["arguments"])
        except (ToolError, TypeError) as error:
            raise DataError(f"The scenario's own step {name!r} fails: {error}") from error
        self.sync()
        return found


def _merge(old: Rows, new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(old.get(key), dict):
            _merge(old[key], value)
        else:
            old[key] = value


def _same(a: Any, b: Any) -> bool:
    if a == b:  # most rows are, and this comparison is a fast one
        return True
    if isinstance(a, dict) and isinstance(b, dict):
        return all(_same(a.get(key), b.get(key)) for key in a.keys() | b.keys())
    return isinstance(a, list) and isinstance(b, list) and len(a) == len(b) and all(map(_same, a, b))
