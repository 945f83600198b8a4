"""The phone company's tools and the phone: what they change, what follows, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from agentic_small import phone_db, telecom_db

from dokja.errors import DataError
from dokja.tasks.agentic.phone import Phone
from dokja.tasks.agentic.telecom import Telecom
from dokja.tasks.agentic.toolkit import ToolError
from dokja.tasks.agentic.world import World

L1, L2 = ({"customer_id": "C1", "line_id": name} for name in ("L1", "L2"))


def own_phone() -> World:
    world = World("telecom", telecom_db(), phone_db())
    told = {"name": "Cy", "phone_number": "555-0001"}
    world.set_up({"initialization_actions": [{"env_type": "user", "func_name": "set_user_info", "arguments": told}]})
    return world


def phone_of(world: World) -> Phone:
    kit = world.sides["user"]
    assert isinstance(kit, Phone)
    return kit


def test_lines_are_suspended_and_resumed() -> None:
    desk = Telecom(telecom_db())
    assert desk.call("suspend_line", {**L1, "reason": "away"})["line"]["suspension_start_date"] == "2025-02-25"
    assert desk.call("resume_line", L1)["line"]["status"] == "Active"
    assert desk.call("enable_roaming", L1) != desk.call("enable_roaming", L1)
    assert desk.call("disable_roaming", L1) != desk.call("disable_roaming", L1)


def test_data_is_charged_on_one_draft_bill() -> None:
    desk = Telecom(telecom_db())
    assert desk.call("refuel_data", {**L1, "gb_amount": 2})["charge"] == 5.0
    desk.call("refuel_data", {**L1, "gb_amount": 1.0})
    bill = desk.db["bills"][-1]
    assert (bill["total_due"], bill["status"], bill["period_start"], bill["period_end"]) == (
        7.5,
        "Draft",
        "2025-03-01",
        "2025-03-31",
    )
    assert desk.call("get_data_usage", L1)["data_refueling_gb"] == 3
    assert len(desk.call("get_customer_by_id", {"customer_id": "C1"})["bill_ids"]) == 3


def test_customers_and_bills_are_found() -> None:
    desk = Telecom(telecom_db())
    assert desk.call("get_customer_by_phone", {"phone_number": "555-0002"})["customer_id"] == "C1"
    assert len(desk.call("get_customer_by_name", {"full_name": "CY PARK", "dob": "1980-02-03"})) == 1
    assert desk.call("get_customer_by_name", {"full_name": "Cy Park", "dob": "1"}) == []
    assert [b["bill_id"] for b in desk.call("get_bills_for_customer", {"customer_id": "C1", "limit": 1})] == ["B2"]
    assert [desk.call("get_details_by_id", {"id": i}) is not None for i in ("L1", "D1", "B1", "C1", "P1")] == [True] * 5
    assert desk.call("get_data_usage", L1)["cycle_end_date"] == "2025-02-28"
    assert desk.db == telecom_db()


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("get_customer_by_phone", {"phone_number": "1"}, "No customer has the number '1'"),
        ("get_customer_by_id", {"customer_id": "C9"}, "no customer 'C9'"),
        ("get_details_by_id", {"id": "X1"}, "is no id"),
        ("get_details_by_id", {"id": "B9"}, "no bill 'B9'"),
        ("get_data_usage", {"customer_id": "C1", "line_id": "L9"}, "has no line 'L9'"),
        ("suspend_line", {**L2, "reason": "x"}, "L2 is Suspended; only an active one"),
        ("resume_line", L1, "L1 is Active; only a suspended one"),
        ("enable_roaming", {"customer_id": "C9", "line_id": "L1"}, "no customer 'C9'"),
        ("refuel_data", {**L1, "gb_amount": 0}, "must be more than 0"),
        ("refuel_data", {**L1, "gb_amount": "much"}, "must be a number"),
        ("send_payment_request", {"customer_id": "C1", "bill_id": "B9"}, "has no bill 'B9'"),
        ("get_bills_for_customer", {"customer_id": "C1", "limit": 1.5}, "must be a whole number"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(name: str, arguments: dict[str, Any], says: str) -> None:
    desk = Telecom(telecom_db())
    with pytest.raises(ToolError, match=says):
        desk.call(name, arguments)
    assert desk.db == telecom_db()


def test_a_bill_is_asked_for_paid_on_the_phone_and_booked() -> None:
    world = own_phone()
    assert world.call("user", "make_payment", {})[0] == "Nothing is to be paid."
    world.call("agent", "send_payment_request", {"customer_id": "C1", "bill_id": "B1"})
    assert "Another bill" in world.call("agent", "send_payment_request", {"customer_id": "C1", "bill_id": "B2"})[0]
    assert world.call("user", "check_payment_request", {})[0] == "Bill B1 is to be paid: 40.0 USD."
    world.call("user", "make_payment", {})
    assert world.sides["agent"].db["bills"][0]["status"] == "Paid"
    assert world.call("user", "check_payment_request", {})[0] == "Nothing is to be paid."


@pytest.mark.parametrize(
    ("fault", "arguments", "mend"),
    [
        ("turn_airplane_mode_on", {}, ["toggle_airplane_mode"]),
        ("turn_data_off", {}, ["toggle_data"]),
        ("unseat_sim_card", {}, ["reseat_sim_card"]),
        ("break_apn_settings", {}, ["reset_apn_settings", "reboot_device"]),
    ],
)
def test_a_fault_stops_mobile_data_until_it_is_mended(fault: str, arguments: dict[str, Any], mend: list[str]) -> None:
    phone = phone_of(own_phone())
    assert phone.data_works()
    getattr(phone, fault)(**arguments)
    assert not phone.data_works() and "no connection" in phone.call("run_speed_test", {})
    for step in mend:
        phone.call(step, {})
    assert phone.assert_mobile_data_status(True) and phone.assert_service_status("connected")


@pytest.mark.parametrize(
    ("fault", "arguments", "mend"),
    [
        ("break_apn_mms_setting", {}, [("reset_apn_settings", {}), ("reboot_device", {})]),
        ("set_wifi_calling", {"enabled": True, "mms_over_wifi": True}, [("toggle_wifi_calling", {})]),
        (
            "remove_app_permission",
            {"app_name": "messaging", "permission": "storage"},
            [("grant_app_permission", {"app_name": "messaging", "permission": "STORAGE"})],
        ),
        (
            "set_network_mode_preference",
            {"mode": "2g_only"},
            [("set_network_mode_preference", {"mode": "4g_5g_preferred"})],
        ),
    ],
)
def test_a_fault_stops_picture_messages_until_it_is_mended(
    fault: str, arguments: dict[str, Any], mend: list[tuple[str, dict[str, Any]]]
) -> None:
    phone = phone_of(own_phone())
    assert phone.assert_can_send_mms(True)
    getattr(phone, fault)(**arguments)
    assert phone.assert_can_send_mms(False) and "cannot" in phone.call("can_send_mms", {})
    for name, given in mend:
        phone.call(name, given)
    assert phone.assert_can_send_mms(True)


def test_speed_is_range_times_signal_vpn_and_saver() -> None:
    phone = phone_of(own_phone())
    phone.simulate_network_search()
    assert phone.speed() == (275.0, "Excellent")  # 5G: the middle of 50 to 500
    phone.break_vpn()
    assert phone.speed() == (27.5, "Good")
    phone.turn_data_saver_mode_on()
    assert phone.speed() == (5.5, "Fair")
    phone.call("disconnect_vpn", {})
    phone.call("toggle_data_saver_mode", {})
    phone.call("set_network_mode_preference", {"mode": "3g_only"})
    assert phone.speed() == (1.5, "Poor")
    assert not phone.assert_internet_speed(200, "excellent") and phone.assert_internet_speed(1.5)


def test_abroad_both_phone_and_company_have_to_allow_roaming() -> None:
    world = own_phone()
    phone = phone_of(world)
    phone.set_user_location(True)
    assert not phone.data_works()
    phone.call("toggle_roaming", {})
    assert not phone.data_works()
    world.call("agent", "enable_roaming", L1)
    assert phone.data_works()


def test_used_up_data_and_a_suspended_line_reach_the_phone() -> None:
    world = own_phone()
    phone = phone_of(world)
    begin = {"env_type": "assistant", "func_name": "set_data_usage", "arguments": {**L1, "data_used_gb": 5.0}}
    world.set_up({"initialization_actions": [begin]})
    assert not phone.data_works()
    world.call("agent", "refuel_data", {**L1, "gb_amount": 1})
    assert phone.data_works()
    world.call("agent", "suspend_line", {**L1, "reason": "x"})
    world.call("user", "reboot_device", {})
    assert phone.assert_service_status("no_service")


def test_an_unpaid_bill_suspends_a_line_and_its_payment_mends_it() -> None:
    world = own_phone()
    step = {**L1, "new_bill_id": "B77", "contract_ended": True}
    world.set_up(
        {
            "initialization_actions": [
                {"env_type": "assistant", "func_name": "suspend_line_for_overdue_bill", "arguments": step}
            ]
        }
    )
    holds = {"env_type": "assistant", "func_name": "assert_no_overdue_bill", "arguments": {"overdue_bill_id": "B77"}}
    desk = world.sides["agent"]
    assert isinstance(desk, Telecom)
    assert not world.holds(holds) and desk.assert_line_status("C1", "L1", "Suspended")
    assert desk.db["lines"][0]["contract_end_date"] == "2025-01-31"
    world.call("agent", "send_payment_request", {"customer_id": "C1", "bill_id": "B77"})
    world.call("user", "make_payment", {})
    assert world.holds(holds)


def test_every_look_at_the_phone_changes_nothing_and_says_something() -> None:
    phone = phone_of(own_phone())
    before = repr(phone.db)
    for name, known in Phone.tools().items():
        if not known.writes:
            assert phone.call(name, {p: "messaging" for p in known.parameters})
    assert repr(phone.db) == before


def test_what_the_user_gets_wrong_is_said_and_changes_nothing() -> None:
    phone = phone_of(own_phone())
    before = repr(phone.db)
    for name, given in (
        ("set_network_mode_preference", {"mode": "6g"}),
        ("grant_app_permission", {"app_name": "messaging", "permission": "camera"}),
        ("grant_app_permission", {"app_name": "maps", "permission": "sms"}),
        ("check_app_status", {"app_name": "maps"}),
        ("disconnect_vpn", {}),
    ):
        assert phone.call(name, given)
        assert repr(phone.db) == before
    with pytest.raises(ToolError, match="needs mode"):
        phone.call("set_network_mode_preference", {})
    phone.turn_airplane_mode_on()
    assert "cannot be switched in airplane mode" in phone.call("toggle_wifi", {})


def test_a_locked_sim_is_mended_by_nothing_that_the_user_has() -> None:
    phone = phone_of(own_phone())
    phone.lock_sim_card("pin")
    phone.call("reseat_sim_card", {})
    phone.call("reboot_device", {})
    assert phone.assert_service_status("no_service") and "PIN" in phone.call("check_sim_status", {})


def test_switches_go_back_and_forth() -> None:
    phone = phone_of(own_phone())
    phone.simulate_network_search()
    before = repr(phone.db)
    for name in ("toggle_wifi", "toggle_wifi_calling", "toggle_data_saver_mode", "toggle_roaming", "toggle_data"):
        phone.call(name, {})
        assert repr(phone.db) != before
        phone.call(name, {})
    phone.call("connect_vpn", {})
    assert "connected already" in phone.call("connect_vpn", {})
    settings = {"apn_name": "internet", "mmsc_url": "http://elsewhere.example"}
    phone.call("set_apn_settings", {"apn_settings": settings})
    assert "elsewhere" in phone.call("check_apn_settings", {})


def test_scenarios_that_cannot_be_set_up_are_named() -> None:
    world = own_phone()
    for name, given in (("explode", {}), ("__init__", {"db": {}}), ("lock_sim_card", {"wrong": 1})):
        with pytest.raises(DataError, match=name):
            world.set_up({"initialization_actions": [{"env_type": "user", "func_name": name, "arguments": given}]})
