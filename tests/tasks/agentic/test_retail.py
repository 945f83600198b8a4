"""The shop's tools: what they change, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from agentic_small import retail_db

from dokja.tasks.agentic.retail import Retail
from dokja.tasks.agentic.toolkit import ToolError

HOME = {"address1": "1 A St", "address2": "", "city": "B", "state": "CA", "country": "USA", "zip": "9"}
SWAP: dict[str, Any] = {
    "order_id": "#W1",
    "item_ids": ["11"],
    "new_item_ids": ["12"],
    "payment_method_id": "gift_card_2",
}
BACK = {"order_id": "#W2", "item_ids": ["21"], "payment_method_id": "paypal_2"}


def desk() -> Retail:
    return Retail(retail_db())


def test_a_cancelled_order_is_paid_back_a_gift_card_at_once() -> None:
    shop = desk()
    shop.db["orders"]["#W1"]["payment_history"][0]["payment_method_id"] = "gift_card_2"
    order = shop.call("cancel_pending_order", {"order_id": "#W1", "reason": "no longer needed"})
    assert order["status"] == "cancelled" and order["cancel_reason"] == "no longer needed"
    assert [p["transaction_type"] for p in order["payment_history"]] == ["payment", "refund"]
    assert shop.db["users"]["bo_2"]["payment_methods"]["gift_card_2"]["balance"] == 55.5


def test_changed_items_are_paid_for_and_only_once() -> None:
    shop = desk()
    order = shop.call("modify_pending_order_items", SWAP)
    assert order["items"][0]["item_id"] == "12" and order["items"][0]["price"] == 30.25
    assert order["payment_history"][-1] == {
        "transaction_type": "payment",
        "amount": 10.25,
        "payment_method_id": "gift_card_2",
    }
    assert shop.db["users"]["bo_2"]["payment_methods"]["gift_card_2"]["balance"] == 19.75
    with pytest.raises(ToolError, match=r"is pending \(item modified\); only one that is pending can be changed"):
        shop.call("modify_pending_order_items", {**SWAP, "item_ids": ["12"], "new_item_ids": ["11"]})
    assert shop.call("modify_pending_order_address", {"order_id": "#W1", **HOME})["address"] == HOME


def test_items_changed_together_take_the_last_ones_price_as_published() -> None:
    order = desk().call("modify_pending_order_items", {**SWAP, "item_ids": ["11", "21"], "new_item_ids": ["12", "22"]})
    assert [(i["item_id"], i["price"]) for i in order["items"]] == [("12", 4.0), ("22", 4.0)]
    assert order["payment_history"][-1]["amount"] == pytest.approx(8.75)


def test_a_new_way_to_pay_takes_all_and_the_old_one_gets_all_back() -> None:
    shop = desk()
    order = shop.call("modify_pending_order_payment", {"order_id": "#W1", "payment_method_id": "gift_card_2"})
    assert [(p["transaction_type"], p["payment_method_id"]) for p in order["payment_history"][1:]] == [
        ("payment", "gift_card_2"),
        ("refund", "paypal_2"),
    ]
    assert shop.db["users"]["bo_2"]["payment_methods"]["gift_card_2"]["balance"] == 4.5


def test_exchanges_and_returns_are_noted_and_move_no_money() -> None:
    shop = desk()
    order = shop.call("exchange_delivered_order_items", {**SWAP, "order_id": "#W2"})
    assert order["status"] == "exchange requested" and order["exchange_price_difference"] == 10.25
    assert shop.db["users"] == retail_db()["users"]
    shop = desk()
    order = shop.call("return_delivered_order_items", BACK)
    assert order["status"] == "return requested" and order["return_items"] == ["21"]
    with pytest.raises(ToolError, match="is return requested"):
        shop.call("exchange_delivered_order_items", {**SWAP, "order_id": "#W2"})


def test_customers_are_found_and_move() -> None:
    shop = desk()
    assert shop.call("find_user_id_by_email", {"email": "BO@Example.com"}) == "bo_2"
    named = {"first_name": "bo", "last_name": "KIM", "zip": "10001"}
    assert shop.call("find_user_id_by_name_zip", named) == "bo_2"
    assert shop.call("modify_user_address", {"user_id": "bo_2", **HOME})["address"] == HOME


def test_looking_changes_nothing() -> None:
    shop = desk()
    assert shop.call("list_all_product_types", {}) == '{"Cup": "P2", "Lamp": "P1"}'
    assert shop.call("get_item_details", {"item_id": "22"})["price"] == 4.0
    shop.call("get_product_details", {"product_id": "P1"})
    shop.call("get_order_details", {"order_id": "#W1"})
    shop.call("get_user_details", {"user_id": "bo_2"})
    shop.call("transfer_to_human_agents", {"summary": "x"})
    assert shop.call("calculate", {"expression": "2 * (3 + 4.5)"}) == "15.0"
    assert shop.db == retail_db()


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("find_user_id_by_email", {"email": "x"}, "no such customer"),
        ("find_user_id_by_name_zip", {"first_name": "Bo", "last_name": "Kim", "zip": "1"}, "no such customer"),
        ("get_user_details", {"user_id": "x"}, "no customer 'x'"),
        ("get_order_details", {"order_id": "W1"}, "no order 'W1'"),
        ("get_product_details", {"product_id": "11"}, "no product '11'"),
        ("get_item_details", {"item_id": "P1"}, "no item 'P1'"),
        ("cancel_pending_order", {"order_id": "#W1", "reason": "bored"}, "must be one of no longer needed"),
        ("cancel_pending_order", {"order_id": "#W3", "reason": "no longer needed"}, "#W3 is processed; only one"),
        ("modify_pending_order_address", {"order_id": "#W2", **HOME}, "only a pending one can be changed"),
        ("modify_pending_order_address", {"order_id": "#W1", "city": "B"}, "needs address1, address2, state"),
        ("modify_pending_order_items", {**SWAP, "order_id": "#W2"}, "only one that is pending"),
        ("modify_pending_order_items", {**SWAP, "item_ids": ["11", "11"]}, "does not hold 11 so often"),
        ("modify_pending_order_items", {**SWAP, "new_item_ids": []}, "as many new items as old"),
        ("modify_pending_order_items", {**SWAP, "new_item_ids": ["11"]}, "another than the old"),
        ("modify_pending_order_items", {**SWAP, "new_item_ids": ["22"]}, "Lamp has no variant '22'"),
        ("modify_pending_order_items", {**SWAP, "new_item_ids": ["13"]}, "13 is not in stock"),
        ("modify_pending_order_items", {**SWAP, "payment_method_id": "x"}, "no payment method 'x'"),
        ("modify_pending_order_payment", {"order_id": "#W3", "payment_method_id": "x"}, "only a pending one"),
        ("modify_pending_order_payment", {"order_id": "#W1", "payment_method_id": "x"}, "no payment method 'x'"),
        ("modify_pending_order_payment", {"order_id": "#W1", "payment_method_id": "paypal_2"}, "in this way already"),
        ("exchange_delivered_order_items", SWAP, "is pending; only one that is delivered"),
        ("exchange_delivered_order_items", {**SWAP, "order_id": "#W2", "new_item_ids": ["13"]}, "not in stock"),
        ("return_delivered_order_items", {**BACK, "order_id": "#W1"}, "only one that is delivered"),
        ("return_delivered_order_items", {**BACK, "item_ids": ["99"]}, "does not hold 99"),
        ("return_delivered_order_items", {**BACK, "payment_method_id": "x"}, "no payment method 'x'"),
        ("modify_user_address", {"user_id": "x", **HOME}, "no customer 'x'"),
        ("nothing", {}, "no tool 'nothing'"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(name: str, arguments: dict[str, Any], says: str) -> None:
    shop = desk()
    with pytest.raises(ToolError, match=says):
        shop.call(name, arguments)
    assert shop.db == retail_db()


def test_a_gift_card_pays_no_more_than_it_holds() -> None:
    shop = desk()
    card = shop.db["users"]["bo_2"]["payment_methods"]["gift_card_2"]
    card["balance"] = 10.0
    for name, order in (("modify_pending_order_items", "#W1"), ("exchange_delivered_order_items", "#W2")):
        with pytest.raises(ToolError, match=r"holds too little for 10\.25"):
            shop.call(name, {**SWAP, "order_id": order})
    with pytest.raises(ToolError, match=r"holds too little for 25\.50"):
        shop.call("modify_pending_order_payment", {"order_id": "#W1", "payment_method_id": "gift_card_2"})
    assert card["balance"] == 10.0


def test_money_goes_back_to_a_gift_card_or_to_what_was_paid_with() -> None:
    shop = desk()
    shop.db["users"]["bo_2"]["payment_methods"]["card_3"] = {"source": "credit_card", "id": "card_3"}
    with pytest.raises(ToolError, match="goes back to what the order was paid with"):
        shop.call("return_delivered_order_items", {**BACK, "payment_method_id": "card_3"})
    shop.call("return_delivered_order_items", {**BACK, "payment_method_id": "gift_card_2"})


def test_an_order_paid_twice_cannot_be_paid_otherwise() -> None:
    shop = desk()
    shop.db["orders"]["#W1"]["payment_history"] *= 2
    with pytest.raises(ToolError, match="Only an order with one payment"):
        shop.call("modify_pending_order_payment", {"order_id": "#W1", "payment_method_id": "gift_card_2"})
