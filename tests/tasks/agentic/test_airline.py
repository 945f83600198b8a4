"""The airline's tools: what they change, and what they refuse."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from agentic_small import airline_db

from dokja.tasks.agentic.airline import Airline
from dokja.tasks.agentic.toolkit import ToolError

NOBODY = {"first_name": "A", "last_name": "B", "dob": "1990-01-01"}
TRIP = {"flight_number": "HAT001", "date": "2024-05-16"}
BOOK: dict[str, Any] = {
    "user_id": "ann_1",
    "origin": "SFO",
    "destination": "JFK",
    "flight_type": "one_way",
    "cabin": "economy",
    "flights": [TRIP],
    "passengers": [NOBODY, NOBODY],
    "payment_methods": [
        {"payment_id": "gift_card_1", "amount": 200},
        {"payment_id": "certificate_1", "amount": 150},
        {"payment_id": "credit_card_1", "amount": 160},
    ],
    "total_baggages": 3,
    "nonfree_baggages": 1,
    "insurance": "yes",
}
"""Two seats at 200, one bag at 50, insurance at 60."""
FLY = {"reservation_id": "AAA111", "cabin": "economy", "flights": [TRIP], "payment_id": "credit_card_1"}
BAGS = {"reservation_id": "AAA111", "total_baggages": 3, "nonfree_baggages": 2, "payment_id": "gift_card_1"}


def test_booking_takes_seats_gift_money_and_the_whole_certificate() -> None:
    desk = Airline(airline_db())
    made = desk.call("book_reservation", BOOK)
    ways = desk.db["users"]["ann_1"]["payment_methods"]
    assert made["reservation_id"] == "HATHAT" and made["flights"][0]["price"] == 200
    assert ways["gift_card_1"]["amount"] == 50 and "certificate_1" not in ways
    assert desk.db["flights"]["HAT001"]["dates"]["2024-05-16"]["available_seats"]["economy"] == 3
    assert desk.db["users"]["ann_1"]["reservations"] == ["AAA111", "HATHAT"]


def test_three_reservations_can_be_made_and_no_fourth() -> None:
    desk = Airline(airline_db())
    one = {**BOOK, "passengers": [NOBODY], "insurance": "no", "nonfree_baggages": 0}
    one["payment_methods"] = [{"payment_id": "credit_card_1", "amount": 200}]
    assert [desk.call("book_reservation", one)["reservation_id"] for _ in range(3)] == ["HATHAT", "HATHAU", "HATHAV"]
    with pytest.raises(ToolError, match="No more than 3 reservations"):
        desk.call("book_reservation", one)


def test_a_cancelled_trip_is_paid_back_and_keeps_its_seats() -> None:
    desk = Airline(airline_db())
    row = desk.call("cancel_reservation", {"reservation_id": "AAA111"})
    assert row["status"] == "cancelled" and [p["amount"] for p in row["payment_history"]] == [150, -150]
    assert desk.db["flights"] == airline_db()["flights"]


def test_a_flight_that_stays_keeps_its_price_unless_the_class_changes() -> None:
    desk = Airline(airline_db())
    onward = {"flight_number": "HAT002", "date": "2024-05-16"}
    row = desk.call("update_reservation_flights", {**FLY, "flights": [TRIP, onward]})
    assert [leg["price"] for leg in row["flights"]] == [150, 80] and row["payment_history"][-1]["amount"] == 80
    row = desk.call("update_reservation_flights", {**FLY, "cabin": "basic_economy"})
    assert row["flights"][0]["price"] == 100 and row["payment_history"][-1]["amount"] == -130


def test_more_paid_bags_are_charged_and_fewer_are_not_paid_back() -> None:
    desk = Airline(airline_db())
    desk.call("update_reservation_baggages", BAGS)
    assert desk.db["users"]["ann_1"]["payment_methods"]["gift_card_1"]["amount"] == 150
    row = desk.call("update_reservation_baggages", {**BAGS, "total_baggages": 1, "nonfree_baggages": 0})
    assert [p["amount"] for p in row["payment_history"]] == [150, 100] and row["nonfree_baggages"] == 0


def test_passengers_are_replaced_and_fields_that_mean_nothing_dropped() -> None:
    row = Airline(airline_db()).call(
        "update_reservation_passengers", {"reservation_id": "AAA111", "passengers": [{**NOBODY, "seat": "1A"}]}
    )
    assert row["passengers"] == [NOBODY]


def test_certificates_come_with_names_of_their_own_three_times() -> None:
    desk = Airline(airline_db())
    for _ in range(3):
        desk.call("send_certificate", {"user_id": "ann_1", "amount": "100"})
    assert desk.db["users"]["ann_1"]["payment_methods"]["certificate_3221324"]["amount"] == 100
    with pytest.raises(ToolError, match="No more than 3 certificates"):
        desk.call("send_certificate", {"user_id": "ann_1", "amount": 1})


def test_searches_find_what_can_be_booked_across_midnight_too() -> None:
    desk = Airline(airline_db())
    assert [f["flight_number"] for f in desk.call("search_direct_flight", _route("JFK", "2024-05-16"))] == ["HAT001"]
    assert desk.call("search_direct_flight", _route("JFK", "2024-05-14")) == []
    same_day = desk.call("search_onestop_flight", _route("BOS", "2024-05-16"))
    next_day = desk.call("search_onestop_flight", _route("BOS", "2024-05-15"))
    assert [f["flight_number"] for f in same_day[0]] == ["HAT001", "HAT002"]
    assert [f["date"] for f in next_day[0]] == ["2024-05-15", "2024-05-16"]
    assert desk.call("search_onestop_flight", _route("BOS", "no day")) == []


def test_looking_changes_nothing() -> None:
    desk = Airline(airline_db())
    desk.call("get_user_details", {"user_id": "ann_1"})
    desk.call("get_reservation_details", {"reservation_id": "AAA111"})
    desk.call("list_all_airports", {})
    assert desk.call("get_flight_status", {"flight_number": "HAT001", "date": "2024-05-14"}) == "landed"
    desk.call("transfer_to_human_agents", {"summary": "help"})
    assert desk.db == airline_db()


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("get_user_details", {"user_id": "x"}, "no customer 'x'"),
        ("get_reservation_details", {"reservation_id": "x"}, "no reservation 'x'"),
        ("get_flight_status", {"flight_number": "HAT9", "date": "2024-05-16"}, "no flight 'HAT9'"),
        ("get_flight_status", {"flight_number": "HAT001", "date": "2030-01-01"}, "does not fly on '2030-01-01'"),
        ("cancel_reservation", {"reservation_id": "x"}, "no reservation 'x'"),
        ("send_certificate", {"user_id": "x", "amount": 1}, "no customer 'x'"),
        ("update_reservation_passengers", {"reservation_id": "AAA111", "passengers": []}, "has 1 passengers, not 0"),
        ("update_reservation_baggages", {**BAGS, "payment_id": "x"}, "no payment method 'x'"),
        ("update_reservation_baggages", {**BAGS, "payment_id": "certificate_1"}, "cannot pay for a change"),
        ("update_reservation_baggages", {**BAGS, "nonfree_baggages": 6}, "holds too little for 300"),
        ("update_reservation_flights", {**FLY, "cabin": "first"}, "must be one of business, economy"),
        ("update_reservation_flights", {**FLY, "flights": [{"date": "2024-05-16"}]}, "lacks flight_number"),
        (
            "update_reservation_flights",
            {**FLY, "flights": [{"flight_number": "HAT001", "date": "2024-05-14"}]},
            "cannot be booked for 2024-05-14: it is landed",
        ),
        ("book_reservation", {**BOOK, "user_id": "x"}, "no customer 'x'"),
        ("book_reservation", {**BOOK, "insurance": "maybe"}, "must be one of yes, no"),
        ("book_reservation", {**BOOK, "flight_type": "loop"}, "must be one of round_trip, one_way"),
        ("book_reservation", {**BOOK, "flights": [{**TRIP, "date": "2024-05-17"}]}, "too few seats in economy"),
        ("book_reservation", {**BOOK, "nonfree_baggages": 0}, "do not add up: the trip costs 460, and 510"),
        ("book_reservation", {**BOOK, "payment_methods": [{"payment_id": "x", "amount": 1}]}, "no payment method 'x'"),
        (
            "book_reservation",
            {**BOOK, "payment_methods": [{"payment_id": "gift_card_1", "amount": 510}]},
            "gift_card_1 holds too little for 510",
        ),
        ("book_reservation", {k: v for k, v in BOOK.items() if k != "cabin"}, "needs cabin"),
        ("search_direct_flight", {"origin": "SFO"}, "needs destination, date"),
        ("list_all_airports", {"city": "x"}, "takes no 'city'; it takes nothing"),
        ("calculate", {"expression": "import os"}, "numbers"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(name: str, arguments: dict[str, Any], says: str) -> None:
    desk = Airline(airline_db())
    given = copy.deepcopy(arguments)
    with pytest.raises(ToolError, match=says.replace("(", r"\(")):
        desk.call(name, arguments)
    assert desk.db == airline_db() and arguments == given


def _route(to: str, day: str) -> dict[str, str]:
    return {"origin": "SFO", "destination": to, "date": day}
