"""Databases that an older dokja made, brought up to date when they are opened.

    none of our tables ──► made as they are today
    version n          ──► the steps from n on, in one transaction with the new version: all of them or none
    a newer version    ──► refused: its rows may mean something that this dokja does not know

Two small stores change rarely and must be brought forward by whoever opens them first, often on a laptop without any
other command. That takes a number and a list of functions, so there is no alembic here, which is made for schemas that
people compare, branch and take back by hand, and comes with a folder of scripts and a configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from dokja.errors import DataError

Step = Callable[[sa.Connection], None]
_LOCK = 0x646F6B6A61  # of PostgreSQL: "dokja"


@dataclass(frozen=True)
class Versions:
    """A store's tables as they are today, and how older ones come there: step i leads from version i + 1 to i + 2.

    A step speaks SQL of its own, never of `tables`: those go on changing."""

    tables: sa.MetaData
    number: sa.Table
    """Holds the version, in its only row and column. A store without it is of version 1."""
    steps: Sequence[Step] = ()

    @property
    def newest(self) -> int:
        """The version of `tables`."""
        return len(self.steps) + 1


def table_of_version(name: str, tables: sa.MetaData) -> sa.Table:
    """The table for `Versions.number`."""
    return sa.Table(name, tables, sa.Column("version", sa.Integer, primary_key=True))


def bring_up(engine: sa.Engine, versions: Versions, place: str) -> None:
    """Makes or mends the tables in a database. Raises DataError where they are of a newer dokja; whoever else opens it
    meanwhile waits."""
    with _alone(engine) as db:
        there = set(sa.inspect(db).get_table_names())
        ours = set(versions.tables.tables) - {versions.number.name}
        version = versions.newest if not ours & there else 1
        if versions.number.name in there:
            version = db.execute(sa.select(versions.number)).scalar() or version
        if version > versions.newest:
            raise DataError(
                f"{place} was made by a newer version of dokja (its tables have the version {version}, and this one "
                f"knows {versions.newest}). Use that one, or another place."
            )
        for step in versions.steps[version - 1 :]:
            step(db)
        versions.tables.create_all(db)
        db.execute(versions.number.delete())
        db.execute(versions.number.insert().values(version=versions.newest))


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that changes of tables are part of, and that no other one runs beside."""
    with engine.connect() as db:
        if db.dialect.name != "sqlite":
            with db.begin():
                if db.dialect.name == "postgresql":
                    db.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                yield db
            return
        # Python's sqlite3 begins transactions before changes of rows alone, so that tables would be made outside one.
        raw = db.connection.dbapi_connection
        assert raw is not None
        before, raw.isolation_level = raw.isolation_level, None
        try:
            db.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.exec_driver_sql("ROLLBACK")
                raise
            db.exec_driver_sql("COMMIT")
        finally:
            raw.isolation_level = before
