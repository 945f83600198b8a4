"""Keys, usage and conversations in PostgreSQL, as in SQLite. Needs a server of its own to write into:

DOKJA_POSTGRES=postgresql+psycopg://me@localhost/empty pytest tests/serve/test_postgres.py
"""

import os
import threading
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from dokja.errors import ConfigError
from dokja.serve.ledger import Ledger
from dokja.serve.reading import Usage
from dokja.serve.threads import Threads

PLACE = os.environ.get("DOKJA_POSTGRES", "")
pytestmark = pytest.mark.skipif(not PLACE, reason="no PostgreSQL: name an empty database in DOKJA_POSTGRES")
ME = "local"


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    def clear() -> None:
        with sa.create_engine(PLACE).begin() as db:
            db.exec_driver_sql("DROP SCHEMA public CASCADE")
            db.exec_driver_sql("CREATE SCHEMA public")

    clear()
    yield
    clear()


def test_keys_quotas_and_usage() -> None:
    ledger = Ledger(PLACE)
    secret = ledger.add("ann", requests_per_minute=2)
    with pytest.raises(ConfigError, match="called 'ann' already"):
        ledger.add("ann")
    grant = ledger.grant(secret)
    assert grant is not None and grant.requests_per_minute == 2
    numbers = [ledger.begin("ann", "m", 7) for _ in range(2)]
    ledger.tell({numbers[0]: Usage(7, 2)})
    ledger.end(numbers[0], Usage(7, 3, 1), "left")
    ledger.tell({numbers[0]: Usage(7, 9)})
    ledger.price("m", 1.0, 2.0)
    (row,) = Ledger(PLACE).totals()
    assert (row["requests"], row["prompt"], row["completion"], row["reasoning"]) == (2, 14, 3, 1)
    assert row["cost"] == pytest.approx((14 + 6) / 1e6)
    wait, quota = ledger.wait(grant)
    assert 50 < wait <= 60 and quota == "requests per minute"
    assert ledger.wait(grant, time.time() + 61) == (0.0, "")
    ledger.revoke("ann")
    assert ledger.grant(secret) is None


def test_conversations() -> None:
    threads = Threads(PLACE)
    thread = threads.new(ME, "합")
    first = threads.say(ME, thread, None, "3 + 4?", [("image/png", b"\x00one")])
    answer = threads.begin(first, 0, "m", True, "high")
    answer.content, answer.finish = "7", "stop"
    threads.save(answer)
    threads.say(ME, thread, first, "고마워")
    threads.close()
    again = Threads(PLACE)
    one, two = again.turns(ME, thread)
    assert (one.text, two.parent, one.answer(0)) == ("3 + 4?", first, answer)
    assert again.picture(ME, one.pictures[0]) == ("image/png", b"\x00one")
    again.delete(ME, thread)
    with sa.create_engine(PLACE).connect() as db:
        for table in ("turns", "answers", "pictures"):
            assert db.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0
    again.close()


def test_an_older_ledger_is_brought_forward_by_whoever_comes_first() -> None:
    Ledger(PLACE).begin("ann", "m", 7)
    with sa.create_engine(PLACE).begin() as db:
        db.exec_driver_sql("ALTER TABLE usage DROP COLUMN outcome")
        db.exec_driver_sql("UPDATE dokja_schema SET version = 1")
    opened: list[Ledger] = []
    threads = [threading.Thread(target=lambda: opened.append(Ledger(PLACE))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    opened[0].end(1, Usage(7, 1), "finished")
    with sa.create_engine(PLACE).connect() as db:
        assert db.exec_driver_sql("SELECT version FROM dokja_schema").scalar() == 2
        assert db.exec_driver_sql("SELECT outcome FROM usage").scalar() == "finished"
