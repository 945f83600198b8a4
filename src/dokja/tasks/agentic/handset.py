"""The state of a simulated phone and what follows from it: network, mobile data, its speed, picture messages.

`db["device"]` is the phone, `db["surroundings"]` where it is and what the company grants it. After a change that
matters to the radio the phone searches for a network anew:

| what                                               | state      | technology and signal                        |
|----------------------------------------------------|------------|----------------------------------------------|
| no working SIM, airplane mode, broken APN, or a line that is not active | no service | none                    |
| otherwise                                          | connected  | the preferred one, as strong as it is here   |
"""

from __future__ import annotations

from typing import Any

from dokja.tasks.agentic.toolkit import Rows, Toolkit

MODES = {"4g_5g_preferred": ("5G", "4G"), "4g_only": ("4G",), "3g_only": ("3G",), "2g_only": ("2G",)}
"""Network preferences: what is tried in turn."""
SIGNAL = {"2G": "poor", "3G": "fair", "4G": "good", "5G": "excellent"}
"""How strong each network is where the user is."""
MBPS = {"2G": (0.1, 0.4), "3G": (1.0, 5.0), "4G": (10.0, 100.0), "5G": (50.0, 500.0)}
SHARE = {"none": 0.0, "poor": 0.2, "fair": 0.5, "good": 0.8, "excellent": 1.0}
"""What a signal leaves of a technology's speed."""
GRADES = ((1.0, "Very Poor"), (5.0, "Poor"), (25.0, "Fair"), (100.0, "Good"), (float("inf"), "Excellent"))
"""A speed below so many Mbit/s is called so."""
POOR_VPN, SAVER = 0.1, 0.2
APN = {"apn_name": "internet", "mms_apn": "mms", "mmsc_url": "http://mms.carrier.com/mms/wapenc"}
VPN = {"server_address": "192.168.1.1", "protocol": "OpenVPN", "server_performance": "excellent"}


def surroundings() -> Rows:
    """Where a user is before a scenario says more."""
    return {
        "is_abroad": False,
        "roaming_allowed": False,
        "signal_strength": dict(SIGNAL),
        "mobile_data_usage_exceeded": False,
        "line_active": True,
    }


class Handset(Toolkit):
    """How scenarios begin and end on the phone; `phone.Phone` has what the user can do with it."""

    def __init__(self, db: Rows) -> None:
        super().__init__(db)
        self.db["surroundings"] = {**surroundings(), **self.db.get("surroundings", {})}

    @property
    def device(self) -> Rows:
        """The phone's own state."""
        return self.db["device"]

    @property
    def around(self) -> Rows:
        """Where it is and what the company grants."""
        return self.db["surroundings"]

    # --- how scenarios begin -----------------------------------------------------------------------------------

    def set_user_info(self, name: str, phone_number: str) -> None:
        """Whose phone it is."""
        self.around["name"], self.around["phone_number"] = name, phone_number

    def set_user_location(self, abroad: bool) -> None:
        """Where it is."""
        self.around["is_abroad"] = abroad

    def turn_airplane_mode_on(self) -> None:
        """On, whatever it was."""
        self._fly(True)

    def turn_data_off(self) -> None:
        """Off, whatever it was."""
        self._set("data_enabled", False)

    def turn_roaming_on(self) -> None:
        """On, whatever it was."""
        self._set("roaming_enabled", True)

    def turn_roaming_off(self) -> None:
        """Off, whatever it was."""
        self._set("roaming_enabled", False)

    def turn_data_saver_mode_on(self) -> None:
        """On, whatever it was."""
        self.device["data_saver_mode"] = True

    def unseat_sim_card(self) -> None:
        """`reseat_sim_card` mends it."""
        self._set("sim_card_missing", True)

    def lock_sim_card(self, mode: str) -> None:
        """By "pin" or "puk": nothing that the user has mends it."""
        self._set("sim_card_status", f"locked_{mode}")

    def break_apn_settings(self) -> None:
        """No service until they are reset."""
        self.device["active_apn_settings"]["apn_name"] = "broken"
        self.simulate_network_search()

    def break_apn_mms_setting(self) -> None:
        """No picture messages until they are reset."""
        self.device["active_apn_settings"]["mmsc_url"] = None

    def set_wifi_calling(self, enabled: bool, mms_over_wifi: bool | None = None) -> None:
        """Calls over Wi-Fi, and whether picture messages go there too."""
        self.device["wifi_calling_enabled"] = enabled
        if mms_over_wifi is not None:
            self.device["wifi_calling_mms_over_wifi"] = mms_over_wifi

    def break_vpn(self) -> None:
        """Connected, and slow."""
        self._join_vpn()
        self.device["vpn_details"]["server_performance"] = "poor"

    def remove_app_permission(self, app_name: str, permission: str) -> None:
        """`grant_app_permission` mends it."""
        self._allow(app_name, permission, False)

    def simulate_network_search(self) -> None:
        """What the radio finds; see the table above."""
        d = self.device
        tried = MODES[d["network_mode_preference"]]
        found = next((t for t in tried if self._signal(t) != "none"), tried[-1])
        barred = (
            d["airplane_mode"] or d["active_apn_settings"]["apn_name"] == "broken" or not self.around["line_active"]
        )
        if self._sim() != "active" or barred:
            state = ("no_service", "none", "none")
        else:
            state = ("connected", found, self._signal(found))
        d["network_connection_status"], d["network_technology_connected"], d["network_signal_strength"] = state

    # --- how scenarios shall end -------------------------------------------------------------------------------

    def assert_service_status(self, expected_status: str) -> bool:
        """Whether the phone is connected so."""
        return bool(self.device["network_connection_status"] == expected_status)

    def assert_mobile_data_status(self, expected_status: bool) -> bool:
        """Whether mobile data works."""
        return self.data_works() == expected_status

    def assert_internet_speed(self, expected_speed: float, expected_desc: str | None = None) -> bool:
        """Whether mobile data is so fast, and called so."""
        speed, grade = self.speed()
        return (speed or 0.0) >= expected_speed and expected_desc in (None, grade.lower())

    def assert_can_send_mms(self, expected_status: bool) -> bool:
        """Whether picture messages work."""
        return self.mms_works() == expected_status

    # --- what follows from the state ---------------------------------------------------------------------------

    def data_works(self) -> bool:
        """Whether mobile data reaches the internet."""
        d, around = self.device, self.around
        radio = not d["airplane_mode"] and d["network_signal_strength"] != "none"
        served = d["network_connection_status"] != "no_service"
        abroad = not around["is_abroad"] or (d["roaming_enabled"] and around["roaming_allowed"])
        return bool(radio and served and abroad and d["data_enabled"] and not around["mobile_data_usage_exceeded"])

    def speed(self) -> tuple[float | None, str]:
        """(Mbit/s, a word for it): the middle of the technology's range, times signal, VPN and data saver. None where
        mobile data does not work."""
        d = self.device
        if not self.data_works():
            return None, "no connection"
        low, high = MBPS.get(d["network_technology_connected"], (0.0, 0.0))
        slow = d["vpn_connected"] and (d.get("vpn_details") or {}).get("server_performance") == "poor"
        factor = (POOR_VPN if slow else 1.0) * (SAVER if d["data_saver_mode"] else 1.0)
        mbps = round((low + high) / 2 * SHARE[d["network_signal_strength"]] * factor, 2)
        return mbps, next(name for below, name in GRADES if mbps < below)

    def mms_works(self) -> bool:
        """Whether picture messages go out: mobile data of 3G or better, not over Wi-Fi, a known MMSC, and an app that
        may use messages and storage."""
        d = self.device
        over_wifi = d["wifi_calling_enabled"] and d["wifi_calling_mms_over_wifi"]
        rights = self._rights("messaging") or {}
        path = self.data_works() and d["network_technology_connected"] != "2G" and not over_wifi
        known = d["active_apn_settings"].get("mmsc_url") is not None
        return bool(path and known and rights.get("storage") and rights.get("sms"))

    def _sim(self) -> str:
        return "missing" if self.device["sim_card_missing"] else str(self.device["sim_card_status"])

    def _signal(self, technology: str) -> str:
        return str(self.around["signal_strength"].get(technology, "none"))

    def _rights(self, app_name: str) -> dict[str, bool] | None:
        app = self.device["app_statuses"].get(app_name)
        return None if app is None else app["permissions"]

    def _allow(self, app_name: str, permission: str, given: bool) -> str:
        rights, permission = self._rights(app_name), permission.lower()
        if rights is None:
            return f"There is no app {app_name!r} on this phone."
        if permission not in rights:
            return f"{app_name} knows no permission {permission!r}; there are {', '.join(rights)}."
        rights[permission] = given
        return f"{app_name} may {'' if given else 'not '}use {permission} now."

    def _fly(self, on: bool) -> None:
        """Airplane mode; either change ends Wi-Fi, and switched on it ends the VPN."""
        self.device["airplane_mode"] = on
        if on or self.device["wifi_enabled"]:
            self._leave_wifi()
        if on:
            self._leave_vpn()
        self.simulate_network_search()

    def _leave_wifi(self) -> None:
        d = self.device
        d["wifi_connected"], d["wifi_ssid"], d["wifi_signal_strength"] = False, None, "none"

    def _join_vpn(self) -> bool:
        """Whether it was not connected before."""
        was = bool(self.device["vpn_connected"])
        if not was:
            self.device["vpn_connected"], self.device["vpn_details"] = True, dict(VPN)
        return not was

    def _leave_vpn(self) -> bool:
        was = bool(self.device["vpn_connected"])
        if was:
            self.device["vpn_connected"], self.device["vpn_details"] = False, None
        return was

    def _set(self, key: str, value: Any) -> None:
        self.device[key] = value
        self.simulate_network_search()
