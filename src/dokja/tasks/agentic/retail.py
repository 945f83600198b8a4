"""The shop's desk: products with variants, customers, orders.

Tables: `products` {id: name, variants {item id: options, available, price}}, `users` {id: ..., payment_methods {id:
source, balance}}, `orders` {id: items, status, payment_history}. The policy, not the tools, says what an agent may do.
"""

from __future__ import annotations

import json
from typing import Any

from dokja.tasks.agentic.toolkit import Calculator, Desk, Rows, ToolError, text, texts, tool

REASONS = ("no longer needed", "ordered by mistake")

_USER = text("The customer's id, such as 'jane_doe_0000'.")
_ORDER = text("The order's id with its '#', such as '#W0000000'.")
_WAY = text("A way to pay out of the customer's profile, such as 'paypal_0000000'.")
_ITEMS = texts("Items of the order, by item id; one that is meant twice is named twice.")
_NEW = texts("What each of them becomes, in the same order: item ids of the same products.")
_ADDRESS: dict[str, Any] = {
    "address1": text("Street and number."),
    "address2": text("Flat or suite; may be empty."),
    "city": text("City."),
    "state": text("State, such as 'CA'."),
    "country": text("Country, such as 'USA'."),
    "zip": text("Postal code."),
}


class Retail(Desk, Calculator):
    """What an agent of the shop can do."""

    # --- looking -----------------------------------------------------------------------------------------------

    @tool("Find a customer by electronic mail.", email=text("The address."))
    def find_user_id_by_email(self, email: str) -> str:
        """The id."""
        return self._find(lambda user: user["email"].lower() == email.lower())

    @tool(
        "Find a customer by name and postal code, where the electronic mail does not help.",
        first_name=text("First name."),
        last_name=text("Last name."),
        zip=text("Postal code."),
    )
    def find_user_id_by_name_zip(self, first_name: str, last_name: str, zip: str) -> str:
        """The id."""
        wanted = (first_name.lower(), last_name.lower(), zip)
        return self._find(
            lambda user: (
                (user["name"]["first_name"].lower(), user["name"]["last_name"].lower(), user["address"]["zip"])
                == wanted
            )
        )

    @tool("Show a customer's profile: address, ways to pay, orders.", user_id=_USER)
    def get_user_details(self, user_id: str) -> Rows:
        """The row of a customer."""
        return self._row("users", user_id, "customer")

    @tool("Show an order: items, status, payments.", order_id=_ORDER)
    def get_order_details(self, order_id: str) -> Rows:
        """The row of an order."""
        return self._row("orders", order_id, "order")

    @tool("Show a product with all its variants.", product_id=text("The product's id, which is no item id."))
    def get_product_details(self, product_id: str) -> Rows:
        """The row of a product."""
        return self._row("products", product_id, "product")

    @tool("Show one variant of a product.", item_id=text("The item's id, which is no product id."))
    def get_item_details(self, item_id: str) -> Rows:
        """Options, price, and whether it is in stock."""
        for product in self.db["products"].values():
            if item_id in product["variants"]:
                variant: Rows = product["variants"][item_id]
                return variant
        raise ToolError(f"There is no item {item_id!r}.")

    @tool("List the products that the shop sells, with their ids.")
    def list_all_product_types(self) -> str:
        """A JSON object, name to id."""
        names = {product["name"]: product["product_id"] for product in self.db["products"].values()}
        return json.dumps(names, sort_keys=True, ensure_ascii=False)

    # --- orders that are on their way --------------------------------------------------------------------------

    @tool(
        "Cancel a pending order and pay back what was paid.",
        writes=True,
        order_id=_ORDER,
        reason=text("Why.", *REASONS),
    )
    def cancel_pending_order(self, order_id: str, reason: str) -> Rows:
        """Gift cards get their money at once."""
        order = self._order(order_id, "pending", "cancelled")
        payments = list(order["payment_history"])
        for payment in payments:
            self._credit(self._way(order, payment["payment_method_id"]), payment["amount"])
        order["payment_history"] += [{**payment, "transaction_type": "refund"} for payment in payments]
        order["status"], order["cancel_reason"] = "cancelled", reason
        return order

    @tool("Change the address that a pending order goes to.", writes=True, order_id=_ORDER, **_ADDRESS)
    def modify_pending_order_address(self, order_id: str, **address: str) -> Rows:
        """Also where its items were changed already."""
        order = self._open(order_id)
        order["address"] = address
        return order

    @tool(
        "Change items of a pending order for others of the same products. Possible once for an order.",
        writes=True,
        order_id=_ORDER,
        item_ids=_ITEMS,
        new_item_ids=_NEW,
        payment_method_id=_WAY,
    )
    def modify_pending_order_items(
        self, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
    ) -> Rows:
        """The difference is paid or paid back.

        As published, every changed item takes the price and the options of the last new one. That is kept, because end
        states are compared with those of the official actions.
        """
        order = self._order(order_id, "pending", "changed")
        pairs = self._pairs(order, item_ids, new_item_ids)
        if any(old["item_id"] == new["item_id"] for old, new in pairs):
            raise ToolError("A new item must be another than the old one.")
        difference = sum(new["price"] - old["price"] for old, new in pairs)
        way = self._way(order, payment_method_id, difference)
        kind = "payment" if difference > 0 else "refund"
        order["payment_history"].append(
            {"transaction_type": kind, "amount": abs(difference), "payment_method_id": payment_method_id}
        )
        self._credit(way, -difference)
        for old, new in zip(item_ids, new_item_ids, strict=True):
            item = next(item for item in order["items"] if item["item_id"] == old)
            item["item_id"], item["price"], item["options"] = new, pairs[-1][1]["price"], pairs[-1][1]["options"]
        order["status"] = "pending (item modified)"
        return order

    @tool("Let a pending order be paid in another way.", writes=True, order_id=_ORDER, payment_method_id=_WAY)
    def modify_pending_order_payment(self, order_id: str, payment_method_id: str) -> Rows:
        """The new way pays all, the old one gets all back."""
        order = self._open(order_id)
        history = order["payment_history"]
        self._way(order, payment_method_id)
        if len(history) != 1 or history[0]["transaction_type"] != "payment":
            raise ToolError("Only an order with one payment can be paid in another way.")
        old, amount = history[0]["payment_method_id"], history[0]["amount"]
        if old == payment_method_id:
            raise ToolError("The order is paid in this way already.")
        new = self._way(order, payment_method_id, amount)
        history += [
            {"transaction_type": "payment", "amount": amount, "payment_method_id": payment_method_id},
            {"transaction_type": "refund", "amount": amount, "payment_method_id": old},
        ]
        self._credit(new, -amount)
        self._credit(self._way(order, old), amount)
        return order

    # --- orders that have arrived ------------------------------------------------------------------------------

    @tool(
        "Exchange items of a delivered order for others of the same products. Return or exchange once for an order.",
        writes=True,
        order_id=_ORDER,
        item_ids=_ITEMS,
        new_item_ids=_NEW,
        payment_method_id=_WAY,
    )
    def exchange_delivered_order_items(
        self, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
    ) -> Rows:
        """Notes what shall be exchanged; no money moves yet."""
        order = self._order(order_id, "delivered", "exchanged")
        pairs = self._pairs(order, item_ids, new_item_ids)
        difference = round(sum(new["price"] - old["price"] for old, new in pairs), 2)
        self._way(order, payment_method_id, difference)
        order["status"] = "exchange requested"
        order["exchange_items"], order["exchange_new_items"] = sorted(item_ids), sorted(new_item_ids)
        order["exchange_payment_method_id"] = payment_method_id
        order["exchange_price_difference"] = difference
        return order

    @tool(
        "Return items of a delivered order. Return or exchange once for an order.",
        writes=True,
        order_id=_ORDER,
        item_ids=_ITEMS,
        payment_method_id=text("Gets the money: what the order was paid with, or a gift card."),
    )
    def return_delivered_order_items(self, order_id: str, item_ids: list[str], payment_method_id: str) -> Rows:
        """Notes what shall be returned; no money moves yet."""
        order = self._order(order_id, "delivered", "returned")
        way = self._way(order, payment_method_id)
        if way["source"] != "gift_card" and payment_method_id != order["payment_history"][0]["payment_method_id"]:
            raise ToolError("The money goes back to what the order was paid with, or to a gift card.")
        self._held(order, item_ids)
        order["status"], order["return_items"] = "return requested", sorted(item_ids)
        order["return_payment_method_id"] = payment_method_id
        return order

    # --- customers ---------------------------------------------------------------------------------------------

    @tool("Change a customer's own address.", writes=True, user_id=_USER, **_ADDRESS)
    def modify_user_address(self, user_id: str, **address: str) -> Rows:
        """Orders keep theirs."""
        user = self._row("users", user_id, "customer")
        user["address"] = address
        return user

    # --- rows --------------------------------------------------------------------------------------------------

    def _row(self, table: str, key: str, what: str) -> Rows:
        row: Rows | None = self.db[table].get(key)
        if row is None:
            raise ToolError(f"There is no {what} {key!r}.")
        return row

    def _find(self, is_meant: Any) -> str:
        found = next((name for name, user in self.db["users"].items() if is_meant(user)), None)
        if found is None:
            raise ToolError("There is no such customer.")
        return str(found)

    def _order(self, order_id: str, status: str, what: str) -> Rows:
        order = self._row("orders", order_id, "order")
        if order["status"] != status:
            raise ToolError(f"Order {order_id} is {order['status']}; only one that is {status} can be {what}.")
        return order

    def _open(self, order_id: str) -> Rows:
        order = self._row("orders", order_id, "order")
        if "pending" not in order["status"]:
            raise ToolError(f"Order {order_id} is {order['status']}; only a pending one can be changed.")
        return order

    def _held(self, order: Rows, item_ids: list[str]) -> None:
        """ToolError where the order does not hold these items, as often as they are named."""
        held = [item["item_id"] for item in order["items"]]
        for item_id in item_ids:
            if item_ids.count(item_id) > held.count(item_id):
                raise ToolError(f"The order does not hold {item_id} so often.")

    def _pairs(self, order: Rows, item_ids: list[str], new_item_ids: list[str]) -> list[tuple[Rows, Rows]]:
        """Each item of the order with the variant that it shall become."""
        self._held(order, item_ids)
        if len(item_ids) != len(new_item_ids):
            raise ToolError("Name as many new items as old ones.")
        pairs = []
        for old, new in zip(item_ids, new_item_ids, strict=True):
            item = next(item for item in order["items"] if item["item_id"] == old)
            variant = self._row("products", item["product_id"], "product")["variants"].get(new)
            if variant is None:
                raise ToolError(f"{item['name']} has no variant {new!r}.")
            if not variant["available"]:
                raise ToolError(f"The item {new} is not in stock.")
            pairs.append((item, variant))
        return pairs

    def _way(self, order: Rows, payment_method_id: str, amount: float = 0.0) -> Rows:
        """A way to pay of the order's customer, which must hold `amount` where it is a gift card."""
        user = self._row("users", order["user_id"], "customer")
        way: Rows | None = user["payment_methods"].get(payment_method_id)
        if way is None:
            raise ToolError(f"{user['user_id']} has no payment method {payment_method_id!r}.")
        if way["source"] == "gift_card" and way["balance"] < amount:
            raise ToolError(f"{payment_method_id} holds too little for {amount:.2f}.")
        return way

    def _credit(self, way: Rows, amount: float) -> None:
        """Money to a gift card, or from it; other ways are charged outside this database."""
        if way["source"] == "gift_card":
            way["balance"] = round(way["balance"] + amount, 2)
