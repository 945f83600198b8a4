"""The phone of telecom's simulated user: what it shows and what can be switched. `handset` has what follows."""

from __future__ import annotations

from dokja.tasks.agentic.handset import APN, MODES, Handset
from dokja.tasks.agentic.toolkit import Rows, fields, text, tool

_APP = text("The app, such as 'messaging'.")


class Phone(Handset):
    """What the user can do with it."""

    # --- looking -----------------------------------------------------------------------------------------------

    @tool("Look at the status bar: signal, network, mobile data, Wi-Fi, battery.")
    def check_status_bar(self) -> str:
        """One line."""
        return self._bar()

    @tool("Look up how the phone is connected: airplane mode, SIM, network, mobile data, roaming, Wi-Fi.")
    def check_network_status(self) -> str:
        """One line for each."""
        d = self.device
        wifi = f"connected to {d.get('wifi_ssid') or 'a network'}" if d["wifi_connected"] else "not connected"
        return "\n".join(
            [
                f"Airplane mode: {_on(d['airplane_mode'])}",
                f"SIM card: {self._sim()}",
                f"Cellular connection: {d['network_connection_status']}",
                f"Cellular signal: {d['network_signal_strength']}",
                f"Cellular network: {d['network_technology_connected']}",
                f"Mobile data: {_on(d['data_enabled'])}",
                f"Data roaming: {_on(d['roaming_enabled'])}",
                f"Wi-Fi: {_on(d['wifi_enabled'])}, {wifi}",
            ]
        )

    @tool("Look up which networks the phone prefers.")
    def check_network_mode_preference(self) -> str:
        """The name of the preference."""
        return f"Preferred network: {self.device['network_mode_preference']}"

    @tool("Measure the speed of mobile data.")
    def run_speed_test(self) -> str:
        """Mbit/s and a word for it."""
        speed, grade = self.speed()
        return "The speed test failed: no connection." if speed is None else f"{speed:.2f} Mbps ({grade})."

    @tool("Look up whether the SIM card works.")
    def check_sim_status(self) -> str:
        """Active, missing, or locked."""
        said = {"active": "works", "missing": "is missing", "locked_pin": "is locked by PIN", "locked_puk": "by PUK"}
        return f"The SIM card {said[self._sim()]}."

    @tool("Look up whether the phone saves data.")
    def check_data_restriction_status(self) -> str:
        """On or off."""
        return f"Data saver: {_on(self.device['data_saver_mode'])}"

    @tool("Look up the access point (APN) settings.")
    def check_apn_settings(self) -> str:
        """The name, and where picture messages go."""
        apn = self.device["active_apn_settings"]
        return f"APN: {apn['apn_name']}\nMMSC URL for picture messages: {apn.get('mmsc_url') or 'not set'}"

    @tool("Look up Wi-Fi.")
    def check_wifi_status(self) -> str:
        """On or off, and the network."""
        d = self.device
        where = f", connected to {d.get('wifi_ssid')}" if d["wifi_connected"] else ", not connected"
        return f"Wi-Fi: {_on(d['wifi_enabled'])}{where if d['wifi_enabled'] else ''}"

    @tool("Look up whether calls may go over Wi-Fi.")
    def check_wifi_calling_status(self) -> str:
        """On or off."""
        return f"Wi-Fi calling: {_on(self.device['wifi_calling_enabled'])}"

    @tool("Look up the VPN.")
    def check_vpn_status(self) -> str:
        """Connected or not, and how well its server works."""
        details = self.device.get("vpn_details")
        if not self.device["vpn_connected"] or details is None:
            return "VPN: not connected"
        return f"VPN: connected to {details['server_address']}, performance {details['server_performance']}"

    @tool("List the installed apps.")
    def check_installed_apps(self) -> str:
        """Their names."""
        return "Installed apps: " + ", ".join(self.device["app_statuses"])

    @tool("Look up an app.", app_name=_APP)
    def check_app_status(self, app_name: str) -> str:
        """What it may do."""
        return self.check_app_permissions(app_name)

    @tool("Look up what an app may do.", app_name=_APP)
    def check_app_permissions(self, app_name: str) -> str:
        """Its permissions."""
        if (rights := self._rights(app_name)) is None:
            return f"There is no app {app_name!r} on this phone."
        return f"{app_name} may use: {', '.join(n for n, given in rights.items() if given) or 'nothing'}"

    @tool("Try whether the messaging app can send a picture message (MMS).")
    def can_send_mms(self) -> str:
        """Yes or no."""
        return f"The messaging app {'can' if self.mms_works() else 'cannot'} send picture messages."

    @tool("Look whether the company has asked for a payment.")
    def check_payment_request(self) -> str:
        """The bill and its amount."""
        if (request := self.around.get("payment_request")) is None:
            return "Nothing is to be paid."
        return f"Bill {request['bill_id']} is to be paid: {request['amount_due']} USD."

    # --- switching ---------------------------------------------------------------------------------------------

    @tool("Choose which networks the phone prefers.", writes=True, mode=text(f"One of {', '.join(MODES)}."))
    def set_network_mode_preference(self, mode: str) -> str:
        """Says so where there is no such preference."""
        if mode not in MODES:
            return self._then(f"{mode!r} is no choice; there are {', '.join(MODES)}.")
        self.device["network_mode_preference"] = mode
        self.simulate_network_search()
        return self._then(f"Preferred network: {mode}")

    @tool("Switch airplane mode on or off.", writes=True)
    def toggle_airplane_mode(self) -> str:
        """Ends Wi-Fi; switched on, the VPN as well."""
        self._fly(not self.device["airplane_mode"])
        return self._then(f"Airplane mode: {_on(self.device['airplane_mode'])}")

    @tool("Take the SIM card out and put it in again.", writes=True)
    def reseat_sim_card(self) -> str:
        """Mends a missing card, no locked one."""
        self.device["sim_card_missing"] = False
        self.simulate_network_search()
        return self._then("The SIM card is in its place.")

    @tool("Switch mobile data on or off.", writes=True)
    def toggle_data(self) -> str:
        """And search for a network."""
        return self._toggle("data_enabled", "Mobile data", search=True)

    @tool("Switch data roaming on or off.", writes=True)
    def toggle_roaming(self) -> str:
        """And search for a network."""
        return self._toggle("roaming_enabled", "Data roaming", search=True)

    @tool("Switch the data saver on or off.", writes=True)
    def toggle_data_saver_mode(self) -> str:
        """It slows mobile data down."""
        return self._toggle("data_saver_mode", "Data saver")

    @tool(
        "Write access point (APN) settings.",
        writes=True,
        apn_settings=fields("The settings.", apn_name=text("Name.", "internet", "broken"), mmsc_url=text("MMSC URL.")),
    )
    def set_apn_settings(self, apn_settings: Rows) -> str:
        """Replaces all of them."""
        self.device["active_apn_settings"] = {**APN, **apn_settings}
        self.simulate_network_search()
        return self._then(f"APN: {apn_settings['apn_name']}")

    @tool("Put the access point (APN) settings back to how they were delivered; done at the next restart.", writes=True)
    def reset_apn_settings(self) -> str:
        """Needs `reboot_device`."""
        self.device["active_apn_settings"]["reset_at_reboot"] = True
        self.simulate_network_search()
        return self._then("The APN settings will be reset at the next restart.")

    @tool("Switch Wi-Fi on or off.", writes=True)
    def toggle_wifi(self) -> str:
        """Not in airplane mode."""
        d = self.device
        if d["airplane_mode"]:
            return self._then("Wi-Fi cannot be switched in airplane mode.")
        if d["wifi_enabled"]:
            self._leave_wifi()
        return self._toggle("wifi_enabled", "Wi-Fi")

    @tool("Switch calls over Wi-Fi on or off.", writes=True)
    def toggle_wifi_calling(self) -> str:
        """On or off."""
        return self._toggle("wifi_calling_enabled", "Wi-Fi calling")

    @tool("Connect to the VPN.", writes=True)
    def connect_vpn(self) -> str:
        """To its usual server."""
        return self._then("The VPN is connected.") if self._join_vpn() else "The VPN is connected already."

    @tool("Disconnect from the VPN.", writes=True)
    def disconnect_vpn(self) -> str:
        """Says so where it was not connected."""
        return self._then("The VPN is disconnected." if self._leave_vpn() else "The VPN was not connected.")

    @tool(
        "Allow an app something.", writes=True, app_name=_APP, permission=text("Such as 'storage', in small letters.")
    )
    def grant_app_permission(self, app_name: str, permission: str) -> str:
        """Says so where app or permission are unknown."""
        return self._then(self._allow(app_name, permission, True))

    @tool("Restart the phone.", writes=True)
    def reboot_device(self) -> str:
        """Applies a reset of the APN settings and searches for a network."""
        if self.device["active_apn_settings"].get("reset_at_reboot"):
            self.device["active_apn_settings"] = dict(APN)
        self.simulate_network_search()
        return self._then("The phone has restarted.")

    @tool("Pay the bill that the company asks to pay.", writes=True)
    def make_payment(self) -> str:
        """Says so where there is none."""
        if (request := self.around.get("payment_request")) is None:
            return "Nothing is to be paid."
        request["paid"] = True
        return f"Bill {request['bill_id']} was paid: {request['amount_due']} USD."

    def _toggle(self, key: str, name: str, search: bool = False) -> str:
        self.device[key] = not self.device[key]
        if search:
            self.simulate_network_search()
        return self._then(f"{name}: {_on(self.device[key])}")

    def _then(self, said: str) -> str:
        """What is said, and the status bar after it."""
        return f"{said}\n{self._bar()}"

    def _bar(self) -> str:
        d = self.device
        if d["airplane_mode"]:
            parts = ["airplane mode"]
        else:
            technology, data = d["network_technology_connected"], "mobile data off"
            if d["data_enabled"] and technology != "none":
                data = "mobile data on, saving" if d["data_saver_mode"] else "mobile data on"
            known = [technology] if technology != "none" else []
            parts = [f"signal {d['network_signal_strength']}", *known, data]
        parts += ["Wi-Fi"] if d["wifi_enabled"] and d["wifi_connected"] else []
        parts += ["VPN"] if d["vpn_connected"] else []
        return "Status bar: " + " | ".join([*parts, f"battery {d['battery_level']} %"])


def _on(value: bool) -> str:
    return "on" if value else "off"
