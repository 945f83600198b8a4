"""Small databases of our own in the form of the benchmark's, and a pack that holds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROUTE = {"origin": "SFO", "destination": "JFK"}


def _open(seats: int = 5, price: int = 100) -> dict[str, Any]:
    classes = ("business", "economy", "basic_economy")
    return {
        "status": "available",
        "available_seats": {name: seats for name in classes},
        "prices": {name: price * (3 - n) for n, name in enumerate(classes)},
    }


def _flight(
    number: str, origin: str, destination: str, leaves: str, lands: str, dates: dict[str, Any]
) -> dict[str, Any]:
    return {
        "origin": origin,
        "destination": destination,
        "flight_number": number,
        "scheduled_departure_time_est": leaves,
        "scheduled_arrival_time_est": lands,
        "dates": dates,
    }


def airline_db() -> dict[str, Any]:
    """Three flights, one customer with every way to pay, one reservation."""
    return {
        "flights": {
            "HAT001": _flight(
                "HAT001", "SFO", "JFK", "08:00:00", "16:00:00",
                {"2024-05-16": _open(), "2024-05-17": _open(seats=1), "2024-05-14": {"status": "landed"}},
            ),
            "HAT002": _flight("HAT002", "JFK", "BOS", "17:00:00", "18:00:00", {"2024-05-16": _open(price=40)}),
            "HAT003": _flight("HAT003", "SFO", "JFK", "22:00:00", "06:00:00+1", {"2024-05-15": _open()}),
        },
        "users": {
            "ann_1": {
                "user_id": "ann_1",
                "name": {"first_name": "Ann", "last_name": "Lee"},
                "payment_methods": {
                    "credit_card_1": {"source": "credit_card", "id": "credit_card_1", "brand": "visa"},
                    "gift_card_1": {"source": "gift_card", "id": "gift_card_1", "amount": 250.0},
                    "certificate_1": {"source": "certificate", "id": "certificate_1", "amount": 150.0},
                },
                "membership": "silver",
                "reservations": ["AAA111"],
            }
        },
        "reservations": {
            "AAA111": {
                "reservation_id": "AAA111",
                "user_id": "ann_1",
                "origin": "SFO",
                "destination": "JFK",
                "flight_type": "one_way",
                "cabin": "economy",
                "flights": [{**ROUTE, "flight_number": "HAT001", "date": "2024-05-16", "price": 150}],
                "passengers": [{"first_name": "Ann", "last_name": "Lee", "dob": "1990-01-01"}],
                "payment_history": [{"payment_id": "credit_card_1", "amount": 150}],
                "created_at": "2024-05-01T00:00:00",
                "total_baggages": 1,
                "nonfree_baggages": 0,
                "insurance": "no",
            }
        },
    }  # fmt: skip


def retail_db() -> dict[str, Any]:
    """Two products, one customer, an order in each state."""

    def variant(item: str, price: float, available: bool = True) -> dict[str, Any]:
        return {"item_id": item, "options": {"size": item[-1]}, "available": available, "price": price}

    def order(name: str, status: str) -> dict[str, Any]:
        lamp = {"name": "Lamp", "product_id": "P1", "item_id": "11", "price": 20.0, "options": {"size": "1"}}
        cup = {"name": "Cup", "product_id": "P2", "item_id": "21", "price": 5.5, "options": {"size": "1"}}
        return {
            "order_id": name,
            "user_id": "bo_2",
            "address": {"zip": "10001"},
            "items": [lamp, cup],
            "status": status,
            "fulfillments": [],
            "payment_history": [
                {"transaction_type": "payment", "amount": 25.5, "payment_method_id": "paypal_2"},
            ],
        }

    return {
        "products": {
            "P1": {
                "name": "Lamp",
                "product_id": "P1",
                "variants": {"11": variant("11", 20.0), "12": variant("12", 30.25), "13": variant("13", 9.0, False)},
            },
            "P2": {"name": "Cup", "product_id": "P2", "variants": {"21": variant("21", 5.5), "22": variant("22", 4.0)}},
        },
        "users": {
            "bo_2": {
                "user_id": "bo_2",
                "name": {"first_name": "Bo", "last_name": "Kim"},
                "address": {"zip": "10001"},
                "email": "bo@example.com",
                "payment_methods": {
                    "paypal_2": {"source": "paypal", "id": "paypal_2"},
                    "gift_card_2": {"source": "gift_card", "id": "gift_card_2", "balance": 30.0},
                },
                "orders": ["#W1", "#W2", "#W3"],
            }
        },
        "orders": {n: order(n, s) for n, s in (("#W1", "pending"), ("#W2", "delivered"), ("#W3", "processed"))},
    }


def telecom_db() -> dict[str, Any]:
    """One customer with an active and a suspended line."""

    def line(name: str, number: str, status: str) -> dict[str, Any]:
        return {
            "line_id": name,
            "phone_number": number,
            "status": status,
            "plan_id": "P1",
            "device_id": "D1",
            "data_used_gb": 4.0,
            "data_refueling_gb": 0.0,
            "roaming_enabled": False,
        }

    def bill(name: str, status: str, issued: str) -> dict[str, Any]:
        return {
            "bill_id": name,
            "customer_id": "C1",
            "issue_date": issued,
            "total_due": 40.0,
            "line_items": [],
            "status": status,
        }

    return {
        "plans": [{"plan_id": "P1", "data_limit_gb": 5.0, "price_per_month": 40.0, "data_refueling_price_per_gb": 2.5}],
        "devices": [{"device_id": "D1", "device_type": "phone"}],
        "lines": [line("L1", "555-0001", "Active"), line("L2", "555-0002", "Suspended")],
        "bills": [bill("B1", "Issued", "2025-01-05"), bill("B2", "Paid", "2025-02-05")],
        "customers": [
            {
                "customer_id": "C1",
                "full_name": "Cy Park",
                "date_of_birth": "1980-02-03",
                "phone_number": "555-1000",
                "line_ids": ["L1", "L2"],
                "bill_ids": ["B1", "B2"],
            }
        ],
    }


def phone_db() -> dict[str, Any]:
    """A phone that works."""
    rights = {"sms": True, "storage": True, "phone": True, "network": False}
    return {
        "device": {
            "sim_card_status": "active",
            "sim_card_missing": False,
            "airplane_mode": False,
            "network_signal_strength": "good",
            "network_technology_connected": "5G",
            "network_connection_status": "connected",
            "battery_level": 80,
            "data_enabled": True,
            "roaming_enabled": False,
            "network_mode_preference": "4g_5g_preferred",
            "wifi_enabled": False,
            "wifi_connected": False,
            "wifi_signal_strength": "none",
            "wifi_calling_enabled": False,
            "wifi_calling_mms_over_wifi": False,
            "data_saver_mode": False,
            "vpn_enabled_setting": False,
            "vpn_connected": False,
            "active_apn_settings": {"apn_name": "internet", "mms_apn": "mms", "mmsc_url": "http://mms.example"},
            "app_statuses": {"messaging": {"app_name": "messaging", "permissions": rights}},
        }
    }


CANCEL = {"name": "cancel_reservation", "arguments": {"reservation_id": "AAA111"}}


def _task(
    name: str, story: str, criteria: dict[str, Any], state: Any = None, persona: str | None = None
) -> dict[str, Any]:
    told = {"domain": "d", "reason_for_call": story, "known_info": "You are Ann.", "task_instructions": "Be short."}
    scenario = {"persona": persona, "instructions": told}
    return {"id": name, "user_scenario": scenario, "initial_state": state, "evaluation_criteria": criteria}


def airline_tasks() -> list[dict[str, Any]]:
    """One that changes the database and has to say something, one that must change nothing."""
    look = {"name": "get_reservation_details", "arguments": {"reservation_id": "AAA111"}}
    return [
        _task("0", "Cancel AAA111.", {"actions": [look, CANCEL], "communicate_info": ["1500"]}),
        _task("1", "Cancel AAA111 though it cannot be.", {"actions": [], "nl_assertions": ["The agent refuses."]}),
    ]


def telecom_tasks() -> list[dict[str, Any]]:
    """A phone abroad with two faults, one for each side to mend; and one that nobody can mend."""
    begin = [
        {"env_type": "user", "func_name": "set_user_info", "arguments": {"name": "Cy", "phone_number": "555-0001"}},
        {"env_type": "user", "func_name": "set_user_location", "arguments": {"abroad": True}},
        {"env_type": "user", "func_name": "turn_data_off", "arguments": {}},
    ]
    ends = {"env_type": "user", "func_name": "assert_mobile_data_status", "arguments": {"expected_status": True}}
    mend = [
        {"requestor": "user", "name": "toggle_data", "arguments": {}},
        {"requestor": "assistant", "name": "enable_roaming", "arguments": {"customer_id": "C1", "line_id": "L1"}},
        {"requestor": "user", "name": "toggle_roaming", "arguments": {}},
    ]
    locked = {"env_type": "user", "func_name": "lock_sim_card", "arguments": {"mode": "pin"}}
    none = {"env_type": "user", "func_name": "assert_service_status", "arguments": {"expected_status": "no_service"}}
    hand = {"name": "transfer_to_human_agents", "arguments": {"summary": "x"}, "compare_args": []}
    return [
        _task(
            "roam",
            "No data.",
            {"actions": mend, "env_assertions": [{**ends, "assert_value": True}], "reward_basis": ["ENV_ASSERTION"]},
            {"initialization_actions": begin},
            "You are old.",
        ),
        _task(
            "locked",
            "No service.",
            {"actions": [hand], "env_assertions": [none], "reward_basis": ["ENV_ASSERTION", "ACTION"]},
            {"initialization_actions": [begin[0], locked]},
        ),
    ]


def write_pack(folder: Path, sha256: dict[str, str] | None = None) -> Path:
    """A pack with all three domains -> its folder, which is its name."""
    tasks = {"airline": airline_tasks(), "retail": [_task("0", "x", {"actions": []})], "telecom": telecom_tasks()}
    databases = {"airline": airline_db(), "retail": retail_db(), "telecom": telecom_db()}
    definition = {
        "name": "small",
        "version": "1",
        "title": "three small desks",
        "source": {"repository": "ours"},
        "licence": {"spdx": "CC0-1.0", "redistributable": True},
        "repeats": 2,
        "agent": True,
        "data": "data",
        "tasks": [
            {
                "name": name,
                "language": "en",
                "items": len(rows),
                "files": [f"{name}/tasks.json"],
                "sha256": (sha256 or {}).get(name),
            }
            for name, rows in tasks.items()
        ],
    }
    _write(folder / "pack.json", definition)
    for name, rows in tasks.items():
        place = folder / "data" / name
        _write(place / "tasks.json", rows)
        _write(place / "split_tasks.json", {"base": [row["id"] for row in rows]})
        _write(place / "db.json", databases[name])
        for policy in ("main_policy", "tech_support_manual") if name == "telecom" else ("policy",):
            (place / f"{policy}.md").write_text(f"# {policy} of {name}\n", encoding="utf-8")
    _write(folder / "data" / "telecom" / "user_db.json", phone_db())
    for guide in ("simulation_guidelines", "simulation_guidelines_tools"):
        path = folder / "data" / "user_simulator" / f"{guide}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {guide}\nEnd with ###STOP###.\n", encoding="utf-8")
    return folder


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
