"""The airline's desk: flights by number and date, customers with ways to pay, reservations.

Tables: `flights` {number: origin, destination, times, dates {day: status, seats and prices where it can be booked}},
`users` {id: ..., payment_methods {id: source, amount}, reservations}, `reservations` {id: ...}. The policy, not the
tools, says what an agent may do: a tool checks only what its database needs.
"""

from __future__ import annotations

from datetime import date as Day
from datetime import timedelta
from typing import Any

from dokja.tasks.agentic.toolkit import Calculator, Desk, Rows, ToolError, several, text, tool, whole

NOW = "2024-05-15T15:00:00"
"""The time at which all official scenarios play."""
NEW_RESERVATIONS = ("HATHAT", "HATHAU", "HATHAV")
NEW_CERTIFICATES = tuple(f"certificate_{n}" for n in (3221322, 3221323, 3221324))
INSURANCE, BAG = 30, 50
"""Dollars: for each passenger, for each bag that is not free."""
CITIES = {
    "SFO": "San Francisco", "JFK": "New York", "LAX": "Los Angeles", "ORD": "Chicago", "DFW": "Dallas",
    "DEN": "Denver", "SEA": "Seattle", "ATL": "Atlanta", "MIA": "Miami", "BOS": "Boston", "PHX": "Phoenix",
    "IAH": "Houston", "LAS": "Las Vegas", "MCO": "Orlando", "EWR": "Newark", "CLT": "Charlotte",
    "MSP": "Minneapolis", "DTW": "Detroit", "PHL": "Philadelphia", "LGA": "LaGuardia",
}  # fmt: skip

_USER = text("The customer's id, such as 'jane_doe_0000'.")
_RESERVATION = text("The reservation's id, six characters such as 'ABC123'.")
_FROM, _TO = text("Airport of departure, three letters."), text("Airport of arrival, three letters.")
_DAY = text("The day, as YYYY-MM-DD.")
_CABIN = text("The class of all flights.", "business", "economy", "basic_economy")
_PAYS = text("A way to pay out of the customer's profile, such as 'gift_card_0000000'.")
_FLIGHTS = several("All flights of the trip in order.", flight_number=text("Such as 'HAT001'."), date=_DAY)
_PASSENGERS = several(
    "Everybody who flies.", first_name=text("First name."), last_name=text("Last name."), dob=text("Born, YYYY-MM-DD.")
)


class Airline(Desk, Calculator):
    """What an agent of the airline can do."""

    # --- looking -----------------------------------------------------------------------------------------------

    @tool("Show a customer's profile: ways to pay, membership, reservations.", user_id=_USER)
    def get_user_details(self, user_id: str) -> Rows:
        """The row of a customer."""
        return self._row("users", user_id, "customer")

    @tool("Show a reservation.", reservation_id=_RESERVATION)
    def get_reservation_details(self, reservation_id: str) -> Rows:
        """The row of a reservation."""
        return self._row("reservations", reservation_id, "reservation")

    @tool("List the airports that are served, with their cities.")
    def list_all_airports(self) -> list[Rows]:
        """Code and city."""
        return [{"iata": code, "city": city} for code, city in CITIES.items()]

    @tool("Tell how a flight stands on a day.", flight_number=text("The flight, such as 'HAT001'."), date=_DAY)
    def get_flight_status(self, flight_number: str, date: str) -> str:
        """Its status, such as "available" or "landed"."""
        return str(self._on(flight_number, date)["status"])

    @tool("Find flights without a stop that can be booked for a day.", origin=_FROM, destination=_TO, date=_DAY)
    def search_direct_flight(self, origin: str, destination: str, date: str) -> list[Rows]:
        """With times, free seats and prices by class."""
        return self._search(date, origin, destination)

    @tool("Find pairs of flights with one stop that can be booked.", origin=_FROM, destination=_TO, date=_DAY)
    def search_onestop_flight(self, origin: str, destination: str, date: str) -> list[list[Rows]]:
        """The second flight leaves where and after the first one lands, on the next day where that lands past midnight
        ("+1" behind its time)."""
        pairs = []
        for first in self._search(date, origin, None):
            landing = str(first["scheduled_arrival_time_est"])
            day = str(Day.fromisoformat(date) + timedelta(days=1)) if "+1" in landing else date
            onward = self._search(day, str(first["destination"]), destination, landing)
            pairs += [[{**first, "date": date}, {**second, "date": day}] for second in onward]
        return pairs

    def _search(self, day: str, origin: str, destination: str | None, after: str = "") -> list[Rows]:
        found = []
        for flight in self.db["flights"].values():
            on = flight["dates"].get(day, {})
            if flight["origin"] != origin or destination not in (None, flight["destination"]):
                continue
            if on.get("status") != "available" or flight["scheduled_departure_time_est"] < after:
                continue
            row = {key: value for key, value in flight.items() if key != "dates"}
            found.append({**row, **{key: on[key] for key in ("status", "available_seats", "prices")}})
        return found

    # --- booking -----------------------------------------------------------------------------------------------

    @tool(
        "Book a trip. What is paid must add up to flights, insurance and bags.",
        writes=True,
        user_id=_USER,
        origin=_FROM,
        destination=_TO,
        flight_type=text("Kind of trip.", "round_trip", "one_way"),
        cabin=_CABIN,
        flights=_FLIGHTS,
        passengers=_PASSENGERS,
        payment_methods=several("Who pays what.", payment_id=_PAYS, amount=whole("Dollars.")),
        total_baggages=whole("Bags in all."),
        nonfree_baggages=whole("Bags that are paid for."),
        insurance=text("Whether the trip is insured.", "yes", "no"),
    )
    def book_reservation(
        self,
        user_id: str,
        origin: str,
        destination: str,
        flight_type: str,
        cabin: str,
        flights: list[Rows],
        passengers: list[Rows],
        payment_methods: list[Rows],
        total_baggages: int,
        nonfree_baggages: int,
        insurance: str,
    ) -> Rows:
        """Takes seats and money, and gives the new reservation."""
        user = self._row("users", user_id, "customer")
        new_id = next((i for i in NEW_RESERVATIONS if i not in self.db["reservations"]), None)
        if new_id is None:
            raise ToolError(f"No more than {len(NEW_RESERVATIONS)} reservations can be made in one conversation.")
        heads = len(passengers)
        legs = [self._leg(flight, cabin, heads) for flight in flights]
        price = sum(leg["price"] for leg in legs) * heads + BAG * nonfree_baggages
        price += INSURANCE * heads if insurance == "yes" else 0
        self._check_payments(user, payment_methods, price)
        for payment in payment_methods:
            way = user["payment_methods"][payment["payment_id"]]
            if way["source"] == "gift_card":
                way["amount"] -= payment["amount"]
            elif way["source"] == "certificate":  # used up, whatever is left of it
                del user["payment_methods"][payment["payment_id"]]
        for flight in flights:
            self._on(flight["flight_number"], flight["date"])["available_seats"][cabin] -= heads
        reservation = {
            "reservation_id": new_id,
            "user_id": user_id,
            "origin": origin,
            "destination": destination,
            "flight_type": flight_type,
            "cabin": cabin,
            "flights": legs,
            "passengers": passengers,
            "payment_history": payment_methods,
            "created_at": NOW,
            "total_baggages": total_baggages,
            "nonfree_baggages": nonfree_baggages,
            "insurance": insurance,
        }
        self.db["reservations"][new_id] = reservation
        user["reservations"].append(new_id)
        return reservation

    def _check_payments(self, user: Rows, payments: list[Rows], price: int) -> None:
        for payment in payments:
            way = user["payment_methods"].get(payment["payment_id"])
            if way is None:
                raise ToolError(f"{user['user_id']} has no payment method {payment['payment_id']!r}.")
            if way["source"] != "credit_card" and way["amount"] < payment["amount"]:
                raise ToolError(f"{payment['payment_id']} holds too little for {payment['amount']}.")
        paid = sum(payment["amount"] for payment in payments)
        if paid != price:
            raise ToolError(f"The payments do not add up: the trip costs {price}, and {paid} would be paid.")

    # --- changing ----------------------------------------------------------------------------------------------

    @tool("Cancel a whole reservation and pay back what was paid.", writes=True, reservation_id=_RESERVATION)
    def cancel_reservation(self, reservation_id: str) -> Rows:
        """Every payment is reversed; seats are not given back."""
        row = self._row("reservations", reservation_id, "reservation")
        paid = row["payment_history"]
        paid += [{"payment_id": payment["payment_id"], "amount": -payment["amount"]} for payment in list(paid)]
        row["status"] = "cancelled"
        return row

    @tool(
        "Change the flights or the class of a reservation. Name every flight of the trip, those that stay included.",
        writes=True,
        reservation_id=_RESERVATION,
        cabin=_CABIN,
        flights=_FLIGHTS,
        payment_id=_PAYS,
    )
    def update_reservation_flights(self, reservation_id: str, cabin: str, flights: list[Rows], payment_id: str) -> Rows:
        """Flights that stay in their class keep their price; the difference is paid or paid back. Seats stay as they
        are."""
        row = self._row("reservations", reservation_id, "reservation")
        heads = len(row["passengers"])
        booked = {(leg["flight_number"], leg["date"]): leg for leg in reversed(row["flights"])}
        stays = booked if cabin == row["cabin"] else {}
        legs = [
            stays.get((flight["flight_number"], flight["date"])) or self._leg(flight, cabin, heads)
            for flight in flights
        ]
        difference = (sum(leg["price"] for leg in legs) - sum(leg["price"] for leg in row["flights"])) * heads
        self._charge(row, payment_id, difference)
        row["flights"], row["cabin"] = legs, cabin
        return row

    @tool(
        "Change the bags of a reservation.",
        writes=True,
        reservation_id=_RESERVATION,
        total_baggages=whole("Bags in all from now on."),
        nonfree_baggages=whole("Bags that are paid for from now on."),
        payment_id=_PAYS,
    )
    def update_reservation_baggages(
        self, reservation_id: str, total_baggages: int, nonfree_baggages: int, payment_id: str
    ) -> Rows:
        """More bags to pay for are charged, fewer are not paid back."""
        row = self._row("reservations", reservation_id, "reservation")
        self._charge(row, payment_id, BAG * max(0, nonfree_baggages - row["nonfree_baggages"]))
        row["total_baggages"], row["nonfree_baggages"] = total_baggages, nonfree_baggages
        return row

    @tool(
        "Change who flies. There must be as many passengers as before.",
        writes=True,
        reservation_id=_RESERVATION,
        passengers=_PASSENGERS,
    )
    def update_reservation_passengers(self, reservation_id: str, passengers: list[Rows]) -> Rows:
        """Replaces all passengers."""
        row = self._row("reservations", reservation_id, "reservation")
        if len(passengers) != len(row["passengers"]):
            raise ToolError(f"The reservation has {len(row['passengers'])} passengers, not {len(passengers)}.")
        row["passengers"] = passengers
        return row

    @tool(
        "Give a customer a travel certificate. It cannot be taken back.",
        writes=True,
        user_id=_USER,
        amount=whole("Dollars."),
    )
    def send_certificate(self, user_id: str, amount: int) -> str:
        """Adds a way to pay."""
        ways = self._row("users", user_id, "customer")["payment_methods"]
        new_id = next((i for i in NEW_CERTIFICATES if i not in ways), None)
        if new_id is None:
            raise ToolError(f"No more than {len(NEW_CERTIFICATES)} certificates can be given in one conversation.")
        ways[new_id] = {"source": "certificate", "id": new_id, "amount": amount}
        return f"{user_id} has the certificate {new_id} of {amount}."

    # --- rows --------------------------------------------------------------------------------------------------

    def _row(self, table: str, key: str, what: str) -> Rows:
        row: Rows | None = self.db[table].get(key)
        if row is None:
            raise ToolError(f"There is no {what} {key!r}.")
        return row

    def _on(self, number: str, day: str) -> Rows:
        on: Rows | None = self._row("flights", number, "flight")["dates"].get(day)
        if on is None:
            raise ToolError(f"Flight {number} does not fly on {day!r}.")
        return on

    def _leg(self, flight: Rows, cabin: str, heads: int) -> dict[str, Any]:
        """A flight as a reservation holds it, at today's price."""
        number, day = flight["flight_number"], flight["date"]
        on = self._on(number, day)
        if on["status"] != "available":
            raise ToolError(f"Flight {number} cannot be booked for {day}: it is {on['status']}.")
        if on["available_seats"][cabin] < heads:
            raise ToolError(f"Flight {number} has too few seats in {cabin} on {day}.")
        route = self.db["flights"][number]
        return {
            "origin": route["origin"],
            "destination": route["destination"],
            "flight_number": number,
            "date": day,
            "price": on["prices"][cabin],
        }

    def _charge(self, row: Rows, payment_id: str, amount: int) -> None:
        """Takes a difference from a way to pay, or pays it back."""
        way = self._row("users", row["user_id"], "customer")["payment_methods"].get(payment_id)
        if way is None:
            raise ToolError(f"{row['user_id']} has no payment method {payment_id!r}.")
        if way["source"] == "certificate":
            raise ToolError("A certificate cannot pay for a change.")
        if way["source"] == "gift_card":
            if way["amount"] < amount:
                raise ToolError(f"{payment_id} holds too little for {amount}.")
            way["amount"] -= amount
        if amount:
            row["payment_history"].append({"payment_id": payment_id, "amount": amount})
