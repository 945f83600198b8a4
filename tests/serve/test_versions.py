"""Databases that older versions made: nothing in them is lost, and what a newer one made is left alone."""

import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from dokja.errors import DataError
from dokja.serve.ledger import Ledger, digest
from dokja.serve.reading import Usage
from dokja.serve.threads import Threads
from dokja.serve.versions import Versions, bring_up, table_of_version

# As version 1 made them: tables, and a row in each that matters.
KEYS_1 = """
CREATE TABLE dokja_schema (version INTEGER NOT NULL, PRIMARY KEY (version));
INSERT INTO dokja_schema VALUES (1);
CREATE TABLE keys (
    id INTEGER NOT NULL, name VARCHAR(200) NOT NULL, sha256 VARCHAR(64) NOT NULL, scopes VARCHAR(200) NOT NULL,
    requests_per_minute INTEGER, tokens_per_minute INTEGER, requests_per_day INTEGER, tokens_per_day INTEGER,
    created FLOAT NOT NULL, revoked FLOAT, PRIMARY KEY (id), UNIQUE (name), UNIQUE (sha256));
CREATE TABLE usage (
    id INTEGER NOT NULL, at FLOAT NOT NULL, "key" VARCHAR(200) NOT NULL, model VARCHAR(400) NOT NULL,
    prompt INTEGER NOT NULL, cached INTEGER NOT NULL, completion INTEGER NOT NULL, reasoning INTEGER NOT NULL,
    ended FLOAT, PRIMARY KEY (id));
CREATE INDEX usage_key_at ON usage ("key", at);
CREATE TABLE prices (
    model VARCHAR(400) NOT NULL, prompt FLOAT NOT NULL, cached FLOAT NOT NULL, completion FLOAT NOT NULL,
    PRIMARY KEY (model));
INSERT INTO usage VALUES (1, 100.0, 'ann', 'm', 7, 0, 3, 1, 101.0), (2, 102.0, 'ann', 'm', 5, 0, 0, 0, NULL);
INSERT INTO prices VALUES ('m', 1.0, 1.0, 2.0);
"""
THREADS_1 = """
CREATE TABLE threads (
    id VARCHAR(32) NOT NULL, owner VARCHAR(64), title TEXT, created FLOAT, updated FLOAT, leaf INTEGER, setting TEXT,
    PRIMARY KEY (id));
CREATE INDEX ix_threads_owner ON threads (owner);
CREATE TABLE turns (
    id INTEGER NOT NULL, thread VARCHAR(32), parent INTEGER, text TEXT, created FLOAT, PRIMARY KEY (id),
    FOREIGN KEY(thread) REFERENCES threads (id) ON DELETE CASCADE);
CREATE INDEX ix_turns_thread ON turns (thread);
CREATE TABLE pictures (
    id VARCHAR(32) NOT NULL, turn INTEGER, kind VARCHAR(32), content BLOB, PRIMARY KEY (id),
    FOREIGN KEY(turn) REFERENCES turns (id) ON DELETE CASCADE);
CREATE INDEX ix_pictures_turn ON pictures (turn);
CREATE TABLE answers (
    id INTEGER NOT NULL, turn INTEGER, lane INTEGER, shown BOOLEAN, model TEXT, thinking BOOLEAN, effort VARCHAR(16),
    reasoning TEXT, content TEXT, finish VARCHAR(16), error TEXT, thought_seconds FLOAT, seconds FLOAT,
    thought_tokens INTEGER, tokens INTEGER, created FLOAT, PRIMARY KEY (id),
    FOREIGN KEY(turn) REFERENCES turns (id) ON DELETE CASCADE);
CREATE INDEX ix_answers_turn ON answers (turn);
INSERT INTO threads VALUES ('t', 'local', '합', 1.0, 2.0, 1, '{}');
INSERT INTO turns VALUES (1, 't', NULL, '3 + 4?', 1.0);
INSERT INTO answers VALUES
    (1, 1, 0, 1, 'm', 1, 'low', '음', '7', 'stop', NULL, 0.5, 1.0, 2, 4, 2.0);
"""


def made(folder: Path, text: str) -> str:
    place = str(folder / "old.db")
    with sqlite3.connect(place) as db:
        db.executescript(text)
    return place


def tables(place: str) -> dict[str, set[str]]:
    inspect = sa.inspect(sa.create_engine(f"sqlite:///{place}"))
    return {name: {column["name"] for column in inspect.get_columns(name)} for name in inspect.get_table_names()}


def test_keys_and_usage_of_version_1_are_brought_forward(tmp_path: Path) -> None:
    place = made(tmp_path, KEYS_1)
    with sqlite3.connect(place) as db:
        row = "INSERT INTO keys VALUES (1, 'ann', ?, 'generate', NULL, NULL, 5, NULL, 99.0, NULL)"
        db.execute(row, (digest("secret"),))
    for _ in range(2):  # the second time there is nothing to do
        ledger = Ledger(place)
        grant = ledger.grant("secret")
        assert grant is not None and (grant.name, grant.requests_per_day) == ("ann", 5)
        (total,) = ledger.totals()
        assert (total["requests"], total["prompt"], total["completion"], total["reasoning"]) == (2, 12, 3, 1)
        assert total["cost"] == pytest.approx((12 + 6) / 1e6)
    ledger.end(2, Usage(5, 4), "left")
    with sqlite3.connect(place) as db:
        assert list(db.execute("SELECT version FROM dokja_schema")) == [(2,)]
        assert list(db.execute("SELECT outcome, completion FROM usage ORDER BY id")) == [(None, 3), ("left", 4)]
    Ledger(str(tmp_path / "new.db"))
    assert tables(place) == tables(str(tmp_path / "new.db"))


def test_conversations_from_before_there_were_versions_are_kept(tmp_path: Path) -> None:
    place = made(tmp_path, THREADS_1)
    threads = Threads(place)
    (turn,) = threads.turns("local", "t")
    answer = turn.answer(0)
    assert answer is not None and (turn.text, answer.content, answer.reasoning) == ("3 + 4?", "7", "음")
    threads.say("local", "t", 1, "고마워")
    threads.close()
    Threads(tmp_path / "new.db").close()
    assert tables(place) == tables(str(tmp_path / "new.db"))


@pytest.mark.parametrize("store, table", [(Ledger, "dokja_schema"), (Threads, "dokja_threads")])
def test_what_a_newer_version_made_is_left_alone(store: type, table: str, tmp_path: Path) -> None:
    place = tmp_path / "new.db"
    store(str(place))
    with sqlite3.connect(place) as db:
        db.execute(f"UPDATE {table} SET version = 99")
    before = tables(str(place))
    with pytest.raises(DataError, match="newer version of dokja"):
        store(str(place))
    assert tables(str(place)) == before


def things(*more: sa.Column) -> sa.MetaData:
    meta = sa.MetaData()
    sa.Table("things", meta, sa.Column("id", sa.Integer, primary_key=True), *more)
    return meta


def test_steps_follow_each_other_and_all_happen_or_none(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'db'}")
    first = things()
    bring_up(engine, Versions(first, table_of_version("v", first)), "here")
    with engine.begin() as db:
        db.exec_driver_sql("INSERT INTO things (id) VALUES (7)")
    third = things(sa.Column("a", sa.Integer), sa.Column("b", sa.Integer))
    broken = True

    def add_a(db: sa.Connection) -> None:
        db.exec_driver_sql("ALTER TABLE things ADD COLUMN a INTEGER DEFAULT 1")

    def add_b(db: sa.Connection) -> None:
        db.exec_driver_sql("ALTER TABLE things ADD COLUMN b INTEGER")
        db.exec_driver_sql("UPDATE things SET b = a + id")
        if broken:
            raise RuntimeError("the machine stops here")

    versions = Versions(third, table_of_version("v", third), (add_a, add_b))
    with pytest.raises(RuntimeError):
        bring_up(engine, versions, "here")
    assert tables(str(tmp_path / "db")) == {"things": {"id"}, "v": {"version"}}
    broken = False
    # Two that open it at once do it once.
    threads = [threading.Thread(target=bring_up, args=(engine, versions, "here")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as db:
        assert list(db.exec_driver_sql("SELECT id, a, b FROM things")) == [(7, 1, 8)]
        assert list(db.exec_driver_sql("SELECT version FROM v")) == [(3,)]
