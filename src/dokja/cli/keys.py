"""`dokja keys`: who may use a server, how much, and what they used."""

import time
from typing import Annotated, Literal

import typer

from dokja.errors import ConfigError


def keys(
    what: Annotated[
        Literal["add", "list", "revoke", "usage", "price"],
        typer.Argument(help="add NAME, list, revoke NAME, usage, price MODEL"),
    ],
    name: Annotated[str | None, typer.Argument(help="The key's name, or the model's.")] = None,
    database: Annotated[str, typer.Option("--keys", help="A file or an SQLAlchemy URL.")] = "dokja-keys.db",
    metrics: Annotated[bool, typer.Option("--metrics", help="add: the key may also read /metrics.")] = False,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="add: its quota.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="add: its quota.")] = None,
    requests_per_day: Annotated[int | None, typer.Option(min=1, help="add: its quota, of the last 24 hours.")] = None,
    tokens_per_day: Annotated[int | None, typer.Option(min=1, help="add: its quota, of the last 24 hours.")] = None,
    prompt: Annotated[float, typer.Option(min=0, help="price: a million tokens read.")] = 0.0,
    cached: Annotated[float | None, typer.Option(min=0, help="price: a million tokens known already.")] = None,
    completion: Annotated[float, typer.Option(min=0, help="price: a million tokens written.")] = 0.0,
    days: Annotated[float, typer.Option(min=0, help="usage: of so many days; 0 of all.")] = 0.0,
) -> None:
    """Make keys for `dokja serve --keys FILE`, take them back, see what was used and what it cost."""
    if name is None and what in ("add", "revoke", "price"):
        raise ConfigError(f"`dokja keys {what}` needs a name: dokja keys {what} NAME.")
    try:
        from dokja.serve.ledger import Ledger
    except ImportError as error:
        raise ConfigError(f"Keys need {error.name}. Install it: python -m pip install 'dokja[serve]'.") from error
    ledger, name = Ledger(database), name or ""
    if what == "add":
        quotas = {
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "requests_per_day": requests_per_day,
            "tokens_per_day": tokens_per_day,
        }
        print(ledger.add(name, ("generate", "metrics") if metrics else ("generate",), **quotas))
    elif what == "revoke":
        ledger.revoke(name)
    elif what == "price":
        ledger.price(name, prompt, completion, cached)
    elif what == "list":
        _table(ledger.keys())
    else:
        _table(ledger.totals(time.time() - days * 86_400 if days else 0.0))


def _table(rows: list[dict[str, object]]) -> None:
    """Rows as a table; times as dates."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in rows[0] if rows else ():
        table.add_column(column)
    for row in rows:
        table.add_row(*(_cell(name, value) for name, value in row.items()))
    Console().print(table)


def _cell(name: str, value: object) -> str:
    if name in ("created", "revoked") and isinstance(value, float):
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(value))
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else str(value)
