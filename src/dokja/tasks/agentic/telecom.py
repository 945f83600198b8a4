"""The phone company's desk: customers, lines, plans, bills, devices.

Tables are lists of rows: `customers`, `lines`, `plans`, `bills`, `devices`. Methods without `@tool` set scenarios up or
check how they ended; no agent can call them.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from dokja.tasks.agentic.toolkit import Desk, Rows, ToolError, number, text, tool, whole

TODAY = date(2025, 2, 25)
"""The day on which all official scenarios play."""
_TABLES = {"L": "lines", "D": "devices", "B": "bills", "C": "customers", "P": "plans"}
_KEYS = {"lines": "line_id", "devices": "device_id", "bills": "bill_id", "customers": "customer_id", "plans": "plan_id"}

_CUSTOMER = text("The customer's id, such as 'C0000'.")
_LINE = text("The line's id, such as 'L0000'; it must be the customer's.")
_BILL = text("The bill's id, such as 'B0000'.")


class Telecom(Desk):
    """What an agent of the phone company can do."""

    # --- looking -----------------------------------------------------------------------------------------------

    @tool("Find a customer by phone number, their own or that of a line.", phone_number=text("Such as '555-000-0000'."))
    def get_customer_by_phone(self, phone_number: str) -> Rows:
        """The row of a customer."""
        for customer in self.db["customers"]:
            numbers = [customer["phone_number"], *(self.row(i)["phone_number"] for i in customer["line_ids"])]
            if phone_number in numbers:
                found: Rows = customer
                return found
        raise ToolError(f"No customer has the number {phone_number!r}.")

    @tool("Show a customer.", customer_id=_CUSTOMER)
    def get_customer_by_id(self, customer_id: str) -> Rows:
        """The row of a customer."""
        return self._row("customers", customer_id)

    @tool("Find customers by name and day of birth.", full_name=text("First and last name."), dob=text("YYYY-MM-DD."))
    def get_customer_by_name(self, full_name: str, dob: str) -> list[Rows]:
        """All that match, or none."""
        wanted = (full_name.lower(), dob)
        return [c for c in self.db["customers"] if (c["full_name"].lower(), c["date_of_birth"]) == wanted]

    @tool("Show a customer, line, device, bill or plan.", id=text("Its id: C…, L…, D…, B… or P…."))
    def get_details_by_id(self, id: str) -> Rows:
        """The row, whatever it is."""
        return self.row(id)

    @tool(
        "List a customer's bills, the newest first.",
        customer_id=_CUSTOMER,
        limit=whole("How many at most; 12 unless it is said."),
    )
    def get_bills_for_customer(self, customer_id: str, limit: int = 12) -> list[Rows]:
        """By the day they were issued."""
        bills = [self._row("bills", bill) for bill in self.get_customer_by_id(customer_id)["bill_ids"]]
        return sorted(bills, key=lambda bill: bill["issue_date"], reverse=True)[:limit]

    @tool("Show how much data a line has used, and how much it may.", customer_id=_CUSTOMER, line_id=_LINE)
    def get_data_usage(self, customer_id: str, line_id: str) -> Rows:
        """Gigabytes, and the last day of the month."""
        line = self._line(customer_id, line_id)
        return {
            "line_id": line_id,
            "data_used_gb": line["data_used_gb"],
            "data_limit_gb": self._row("plans", line["plan_id"])["data_limit_gb"],
            "data_refueling_gb": line["data_refueling_gb"],
            "cycle_end_date": _ends(TODAY).isoformat(),
        }

    # --- lines -------------------------------------------------------------------------------------------------

    @tool(
        "Suspend an active line, for six months at most.",
        writes=True,
        customer_id=_CUSTOMER,
        line_id=_LINE,
        reason=text("Why."),
    )
    def suspend_line(self, customer_id: str, line_id: str, reason: str) -> Rows:
        """From today on."""
        line = self._line(customer_id, line_id)
        if line["status"] != "Active":
            raise ToolError(f"Line {line_id} is {line['status']}; only an active one can be suspended.")
        line["status"], line["suspension_start_date"] = "Suspended", TODAY.isoformat()
        return {"message": "The line is suspended; holding it costs $5 a month.", "line": line}

    @tool("Make a suspended line active again.", writes=True, customer_id=_CUSTOMER, line_id=_LINE)
    def resume_line(self, customer_id: str, line_id: str) -> Rows:
        """One that waits for its activation as well."""
        line = self._line(customer_id, line_id)
        if line["status"] not in ("Suspended", "Pending Activation"):
            raise ToolError(f"Line {line_id} is {line['status']}; only a suspended one can be resumed.")
        line["status"], line["suspension_start_date"] = "Active", None
        return {"message": "The line is active.", "line": line}

    @tool("Allow a line to be used abroad.", writes=True, customer_id=_CUSTOMER, line_id=_LINE)
    def enable_roaming(self, customer_id: str, line_id: str) -> str:
        """Says so where it was allowed already."""
        return self._roaming(customer_id, line_id, True)

    @tool("Forbid a line to be used abroad.", writes=True, customer_id=_CUSTOMER, line_id=_LINE)
    def disable_roaming(self, customer_id: str, line_id: str) -> str:
        """Says so where it was forbidden already."""
        return self._roaming(customer_id, line_id, False)

    @tool(
        "Add data to a line for this month; it is charged at the plan's price.",
        writes=True,
        customer_id=_CUSTOMER,
        line_id=_LINE,
        gb_amount=number("Gigabytes."),
    )
    def refuel_data(self, customer_id: str, line_id: str, gb_amount: float) -> Rows:
        """The charge goes onto the customer's next bill."""
        line = self._line(customer_id, line_id)
        if gb_amount <= 0:
            raise ToolError("The amount of data must be more than 0.")
        charge = gb_amount * self._row("plans", line["plan_id"])["data_refueling_price_per_gb"]
        line["data_refueling_gb"] += gb_amount
        self._charge(customer_id, charge, f"Data added to {line_id}: {gb_amount} GB")
        return {
            "message": f"Line {line_id} has {gb_amount} GB more, for ${charge:.2f}.",
            "new_data_refueling_gb": line["data_refueling_gb"],
            "charge": charge,
        }

    # --- bills -------------------------------------------------------------------------------------------------

    @tool(
        "Ask a customer to pay a bill. Look first whether it is paid already: this is not checked.",
        writes=True,
        customer_id=_CUSTOMER,
        bill_id=_BILL,
    )
    def send_payment_request(self, customer_id: str, bill_id: str) -> str:
        """One bill at a time."""
        customer = self.get_customer_by_id(customer_id)
        if self.awaiting(customer):
            raise ToolError("Another bill of this customer waits for its payment.")
        if bill_id not in customer["bill_ids"]:
            raise ToolError(f"Customer {customer_id} has no bill {bill_id!r}.")
        self._row("bills", bill_id)["status"] = "Awaiting Payment"
        return f"The customer was asked to pay {bill_id}."

    # --- what ties the desk to the customer's phone ------------------------------------------------------------

    def line_of(self, phone_number: str) -> Rows:
        """The line with a number."""
        for line in self.db["lines"]:
            if line["phone_number"] == phone_number:
                found: Rows = line
                return found
        raise ToolError(f"No line has the number {phone_number!r}.")

    def used_up(self, line: Rows) -> bool:
        """Whether a line has no data left."""
        limit = self._row("plans", line["plan_id"])["data_limit_gb"]
        return bool(line["data_used_gb"] >= limit + line["data_refueling_gb"])

    def awaiting(self, customer: Rows) -> list[Rows]:
        """The bills that the customer was asked to pay."""
        bills = [self._row("bills", bill) for bill in customer["bill_ids"]]
        return [bill for bill in bills if bill["status"] == "Awaiting Payment"]

    def paid(self, bill_id: str) -> None:
        """A bill was paid."""
        self._row("bills", bill_id)["status"] = "Paid"

    # --- how scenarios begin -----------------------------------------------------------------------------------

    def set_data_usage(self, customer_id: str, line_id: str, data_used_gb: float) -> None:
        """So much data was used this month."""
        self._line(customer_id, line_id)["data_used_gb"] = data_used_gb

    def suspend_line_for_overdue_bill(
        self, customer_id: str, line_id: str, new_bill_id: str, contract_ended: bool
    ) -> None:
        """Last month's bill was not paid, so the line is suspended."""
        line, customer = self._row("lines", line_id), self.get_customer_by_id(customer_id)
        if line["status"] != "Active":
            raise ToolError(f"Line {line_id} is {line['status']} and cannot be suspended for a bill.")
        if any(self._row("bills", bill)["status"] == "Overdue" for bill in customer["bill_ids"]):
            raise ToolError(f"Customer {customer_id} has an overdue bill already.")
        last = TODAY.replace(day=1) - timedelta(days=1)
        first, price = last.replace(day=1), self._row("plans", line["plan_id"])["price_per_month"]
        bill = _bill(new_bill_id, customer_id, first, "Overdue")
        bill["line_items"].append(_item(f"Charge for line {line_id}", price))
        bill["total_due"] += price
        self.db["bills"].append(bill)
        customer["bill_ids"].append(new_bill_id)
        line["status"], line["suspension_start_date"] = "Suspended", TODAY.isoformat()
        if contract_ended:
            line["contract_end_date"] = last.isoformat()

    # --- how scenarios shall end -------------------------------------------------------------------------------

    def assert_data_refueling_amount(self, customer_id: str, line_id: str, expected_amount: float) -> bool:
        """Whether so much data was added."""
        return abs(self._line(customer_id, line_id)["data_refueling_gb"] - expected_amount) < 1e-6

    def assert_line_status(self, customer_id: str, line_id: str, expected_status: str) -> bool:
        """Whether a line stands so."""
        return bool(self._line(customer_id, line_id)["status"] == expected_status)

    def assert_no_overdue_bill(self, overdue_bill_id: str) -> bool:
        """Whether a bill was paid, or never was."""
        bill = next((bill for bill in self.db["bills"] if bill["bill_id"] == overdue_bill_id), None)
        return bill is None or bill["status"] == "Paid"

    # --- rows --------------------------------------------------------------------------------------------------

    def row(self, id: str) -> Rows:
        """The row with an id; its first letter tells the table."""
        if id[:1] not in _TABLES:
            raise ToolError(f"{id!r} is no id: they begin with {', '.join(_TABLES)}.")
        return self._row(_TABLES[id[0]], id)

    def _row(self, table: str, key: str) -> Rows:
        for row in self.db[table]:
            if row[_KEYS[table]] == key:
                found: Rows = row
                return found
        raise ToolError(f"There is no {table[:-1]} {key!r}.")

    def _line(self, customer_id: str, line_id: str) -> Rows:
        if line_id not in self.get_customer_by_id(customer_id)["line_ids"]:
            raise ToolError(f"Customer {customer_id} has no line {line_id!r}.")
        return self._row("lines", line_id)

    def _roaming(self, customer_id: str, line_id: str, on: bool) -> str:
        line, what = self._line(customer_id, line_id), "allowed" if on else "forbidden"
        if line["roaming_enabled"] == on:
            return f"Roaming was {what} already."
        line["roaming_enabled"] = on
        return f"Roaming is {what} now."

    def _charge(self, customer_id: str, amount: float, description: str) -> None:
        """Puts a charge onto the customer's draft bill; where there is none, onto a new one for the next month."""
        customer = self.get_customer_by_id(customer_id)
        bills = [self._row("bills", bill) for bill in customer["bill_ids"]]
        bill = next((bill for bill in bills if bill["status"] == "Draft"), None)
        if bill is None:
            bill = _bill(f"B{len(self.db['bills']) + 9000}", customer_id, _ends(TODAY) + timedelta(days=1), "Draft")
            self.db["bills"].append(bill)
            customer["bill_ids"].append(bill["bill_id"])
        bill["line_items"].append(_item(description, amount))
        bill["total_due"] += amount


def _ends(day: date) -> date:
    """The last day of a month."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)


def _bill(bill_id: str, customer_id: str, first: date, status: str) -> dict[str, Any]:
    """An empty bill for the month that begins with `first`, due after two weeks."""
    return {
        "bill_id": bill_id,
        "customer_id": customer_id,
        "period_start": first.isoformat(),
        "period_end": _ends(first).isoformat(),
        "issue_date": first.isoformat(),
        "total_due": 0.0,
        "due_date": (first + timedelta(days=14)).isoformat(),
        "line_items": [],
        "status": status,
    }


def _item(description: str, amount: float) -> dict[str, Any]:
    kind = "Credit" if amount < 0 else "Charge"
    return {"description": description, "amount": amount, "date": TODAY.isoformat(), "item_type": kind}
