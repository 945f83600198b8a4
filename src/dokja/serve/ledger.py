"""Keys, prices and what was used, in SQLite or any database that SQLAlchemy reaches by URL.

| table  | one row per          | written                                                                  |
|--------|----------------------|--------------------------------------------------------------------------|
| keys   | key                  | by `dokja keys`; the secret itself is never stored, only its SHA-256      |
| usage  | request that writes  | when it is admitted, every few seconds, and before its end is told         |
| prices | model                | by `dokja keys price`                                                    |

A killed server loses no row; of requests that it was at work on, the last few seconds' tokens are not counted.

A secret has 256 random bits, so a fast hash without salt tells nothing about it.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from dokja.errors import ConfigError
from dokja.serve.reading import Usage
from dokja.serve.versions import Versions, bring_up, table_of_version

Outcome = Literal["finished", "left", "failed"]
"""How a request ended: as it should, because the client went, or with an error."""
_META = sa.MetaData()
_keys = sa.Table(
    "keys",
    _META,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(200), unique=True, nullable=False),
    sa.Column("sha256", sa.String(64), unique=True, nullable=False),
    sa.Column("scopes", sa.String(200), nullable=False),
    sa.Column("requests_per_minute", sa.Integer),
    sa.Column("tokens_per_minute", sa.Integer),
    sa.Column("requests_per_day", sa.Integer),
    sa.Column("tokens_per_day", sa.Integer),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("revoked", sa.Float),
)
_usage = sa.Table(
    "usage",
    _META,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("key", sa.String(200), nullable=False),
    sa.Column("model", sa.String(400), nullable=False),
    sa.Column("prompt", sa.Integer, nullable=False),
    sa.Column("cached", sa.Integer, nullable=False),
    sa.Column("completion", sa.Integer, nullable=False),
    sa.Column("reasoning", sa.Integer, nullable=False),
    sa.Column("ended", sa.Float),
    sa.Column("outcome", sa.String(16)),
    sa.Index("usage_key_at", "key", "at"),
)
_prices = sa.Table(
    "prices",
    _META,
    sa.Column("model", sa.String(400), primary_key=True),
    sa.Column("prompt", sa.Float, nullable=False),
    sa.Column("cached", sa.Float, nullable=False),
    sa.Column("completion", sa.Float, nullable=False),
)


def _outcomes(db: sa.Connection) -> None:
    """Version 2: how a request ended. What is known of older ones is that they did."""
    db.exec_driver_sql("ALTER TABLE usage ADD COLUMN outcome VARCHAR(16)")


_VERSIONS = Versions(_META, table_of_version("dokja_schema", _META), (_outcomes,))
QUOTAS = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day")
_WINDOWS = {"minute": 60.0, "day": 86_400.0}


@dataclass(frozen=True)
class Grant:
    """Whose key it is and what it may do; quotas None are not limited."""

    name: str
    scopes: frozenset[str]
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None

    @property
    def limited(self) -> bool:
        """Whether any quota binds it."""
        return any(getattr(self, name) is not None for name in QUOTAS)


def digest(secret: str) -> str:
    """The SHA-256 of a key's secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class Ledger:
    """The database. Its methods wait for it: call them from a thread."""

    def __init__(self, place: str) -> None:
        """`place`: a file, or an SQLAlchemy URL. Raises ConfigError where it cannot be opened, DataError where a
        newer dokja made it."""
        url = place if "://" in place else f"sqlite:///{Path(place).expanduser()}"
        try:
            self._engine = sa.create_engine(url)
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", _tune)
            bring_up(self._engine, _VERSIONS, place)
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            first = str(error).splitlines()[0]
            raise ConfigError(f"The database {place} cannot be opened ({first}). Check the path or URL.") from error

    # --- keys -------------------------------------------------------------------------------------------------------

    def add(self, name: str, scopes: Sequence[str] = ("generate",), **quotas: int | None) -> str:
        """A new key -> its secret, which nobody can show again. Raises ConfigError where the name is taken."""
        secret = f"dokja-{secrets.token_urlsafe(32)}"
        row = {"name": name, "sha256": digest(secret), "scopes": ",".join(scopes), "created": time.time(), **quotas}
        try:
            with self._engine.begin() as db:
                db.execute(_keys.insert().values(row))
        except sa.exc.IntegrityError as error:
            raise ConfigError(f"There is a key called {name!r} already. Choose another name.") from error
        return secret

    def revoke(self, name: str) -> None:
        """The key is refused from now on. Raises ConfigError where there is none of that name."""
        with self._engine.begin() as db:
            done = db.execute(_keys.update().where(_keys.c.name == name).values(revoked=time.time()))
        if not done.rowcount:
            raise ConfigError(f"There is no key called {name!r}.")

    def keys(self) -> list[dict[str, Any]]:
        """All keys without their hashes."""
        columns = [c for c in _keys.c if c.name != "sha256"]
        with self._engine.connect() as db:
            return [dict(row) for row in db.execute(sa.select(*columns).order_by(_keys.c.id)).mappings()]

    def grant(self, secret: str) -> Grant | None:
        """What this secret may do; None where it is unknown or revoked."""
        wanted = sa.select(_keys).where(_keys.c.sha256 == digest(secret), _keys.c.revoked.is_(None))
        with self._engine.connect() as db:
            row = db.execute(wanted).mappings().first()
        if row is None:
            return None
        return Grant(row["name"], frozenset(row["scopes"].split(",")), **{name: row[name] for name in QUOTAS})

    def wait(self, grant: Grant, now: float | None = None) -> tuple[float, str]:
        """(seconds until the next request is within its quotas, the quota that binds); 0 where it is now."""
        now = time.time() if now is None else now
        worst = (0.0, "")
        with self._engine.connect() as db:
            for window, seconds in _WINDOWS.items():
                for what in ("requests", "tokens"):
                    most = getattr(grant, f"{what}_per_{window}")
                    if most is not None:
                        worst = max(worst, (_until(db, grant.name, what, most, now, seconds), f"{what} per {window}"))
        return worst if worst[0] else (0.0, "")

    # --- usage ------------------------------------------------------------------------------------------------------

    def begin(self, key: str, model: str, prompt: int) -> int:
        """A request was admitted -> the number of its row."""
        row = {"at": time.time(), "key": key, "model": model, "prompt": prompt}
        with self._engine.begin() as db:
            done = db.execute(_usage.insert().values(**row, cached=0, completion=0, reasoning=0))
        (number,) = done.inserted_primary_key or (0,)
        return int(number)

    def end(self, number: int, usage: Usage, outcome: Outcome = "finished") -> None:
        """The request is over."""
        with self._engine.begin() as db:
            change = _usage.update().where(_usage.c.id == number)
            db.execute(change.values(**asdict(usage), ended=time.time(), outcome=outcome))

    def tell(self, running: Mapping[int, Usage]) -> None:
        """What requests have taken so far that are not over, by the numbers of their rows."""
        with self._engine.begin() as db:
            for number, usage in running.items():
                open_row = (_usage.c.id == number) & _usage.c.ended.is_(None)
                db.execute(_usage.update().where(open_row).values(**asdict(usage)))

    def price(self, model: str, prompt: float, completion: float, cached: float | None = None) -> None:
        """What a million tokens of this model cost; cached ones as much as others where nothing is said."""
        row = {"prompt": prompt, "cached": prompt if cached is None else cached, "completion": completion}
        with self._engine.begin() as db:
            db.execute(_prices.delete().where(_prices.c.model == model))
            db.execute(_prices.insert().values(model=model, **row))

    def totals(self, since: float = 0.0) -> list[dict[str, Any]]:
        """Requests, tokens and cost (None without a price) by key and model."""
        u, p = _usage.c, _prices.c
        sums = [sa.func.sum(u[name]).label(name) for name in ("prompt", "cached", "completion", "reasoning")]
        fresh = sa.func.sum(u.prompt - u.cached) * p.prompt
        cost = (fresh + sa.func.sum(u.cached) * p.cached + sa.func.sum(u.completion) * p.completion) / 1e6
        query = (
            sa.select(u.key, u.model, sa.func.count().label("requests"), *sums, cost.label("cost"))
            .select_from(_usage.outerjoin(_prices, u.model == p.model))
            .where(u.at >= since)
            .group_by(u.key, u.model, p.prompt, p.cached, p.completion)
            .order_by(u.key, u.model)
        )
        with self._engine.connect() as db:
            return [dict(row) for row in db.execute(query).mappings()]


def _until(db: sa.Connection, key: str, what: str, most: int, now: float, seconds: float) -> float:
    """Seconds until so much of the last `seconds` has passed that one more request is within `most`."""
    amount = sa.literal(1) if what == "requests" else _usage.c.prompt + _usage.c.completion
    recent = sa.select(_usage.c.at, amount).where(_usage.c.key == key, _usage.c.at > now - seconds)
    rows = [(at, n) for at, n in db.execute(recent.order_by(_usage.c.at))]
    left = sum(n for _, n in rows) - most
    for at, n in rows:
        if left < 0:
            return 0.0
        left -= n
        if left < 0:
            return max(0.001, at + seconds - now)
    return 0.0 if left < 0 else seconds


def _tune(connection: Any, record: Any) -> None:
    """Readers beside a writer; a commit outlives the process (not the power), and costs no disk's round trip."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
