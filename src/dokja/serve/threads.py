"""Conversations of the chat page in a database: SQLite in a file, or PostgreSQL by URL.

| table     | a row is                                                                                        |
|-----------|-------------------------------------------------------------------------------------------------|
| threads   | a conversation of one owner; `leaf` is the turn at the end of the branch that is shown          |
| turns     | what the person said; an edit is another turn with the same parent                              |
| pictures  | an image that a turn shows                                                                      |
| answers   | what a model said to a turn, in one lane (two are side by side); a retry is another answer      |

Every change is one transaction, so a killed server loses nothing that was said to be saved.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dokja.errors import DataError
from dokja.serve.versions import Versions, bring_up, table_of_version

_META = sa.MetaData()
_THREADS = sa.Table(
    "threads", _META, sa.Column("id", sa.String(32), primary_key=True), sa.Column("owner", sa.String(64), index=True),
    sa.Column("title", sa.Text), sa.Column("created", sa.Float), sa.Column("updated", sa.Float),
    sa.Column("leaf", sa.Integer), sa.Column("setting", sa.Text),
)  # fmt: skip
_TURNS = sa.Table(
    "turns", _META, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("thread", sa.ForeignKey("threads.id", ondelete="CASCADE"), index=True),
    sa.Column("parent", sa.Integer), sa.Column("text", sa.Text), sa.Column("created", sa.Float),
)  # fmt: skip
_PICTURES = sa.Table(
    "pictures", _META, sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("turn", sa.ForeignKey("turns.id", ondelete="CASCADE"), index=True),
    sa.Column("kind", sa.String(32)), sa.Column("content", sa.LargeBinary),
)  # fmt: skip
_ANSWERS = sa.Table(
    "answers", _META, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("turn", sa.ForeignKey("turns.id", ondelete="CASCADE"), index=True),
    sa.Column("lane", sa.Integer), sa.Column("shown", sa.Boolean), sa.Column("model", sa.Text),
    sa.Column("thinking", sa.Boolean), sa.Column("effort", sa.String(16)), sa.Column("reasoning", sa.Text),
    sa.Column("content", sa.Text), sa.Column("finish", sa.String(16)), sa.Column("error", sa.Text),
    sa.Column("thought_seconds", sa.Float), sa.Column("seconds", sa.Float), sa.Column("thought_tokens", sa.Integer),
    sa.Column("tokens", sa.Integer), sa.Column("created", sa.Float),
)  # fmt: skip
_VERSIONS = Versions(_META, table_of_version("dokja_threads", _META))
_GROWS = frozenset(
    {"reasoning", "content", "finish", "error", "thought_seconds", "seconds", "thought_tokens", "tokens"}
)


@dataclass
class Answer:
    """What a model said. `finish` is None while it is written, and stays None where the server was killed then."""

    id: int
    lane: int
    model: str
    thinking: bool | None
    effort: str | None
    reasoning: str = ""
    content: str = ""
    finish: str | None = None
    error: str | None = None
    thought_seconds: float | None = None
    seconds: float | None = None
    thought_tokens: int | None = None
    tokens: int | None = None


@dataclass
class Turn:
    """What the person said, and the answers to it by lane, each with its place among the retries."""

    id: int
    parent: int | None
    text: str
    pictures: list[str]
    """Ids, in order."""
    place: int = 0
    """Among the edits of the same turn, whose ids are `siblings`."""
    siblings: list[int] = field(default_factory=list)
    answers: dict[int, list[Answer]] = field(default_factory=dict)
    shown: dict[int, int] = field(default_factory=dict)
    """Place of the answer that is shown and that counts as history, by lane."""

    def answer(self, lane: int) -> Answer | None:
        """The answer that is shown in a lane; the first lane's where this one did not exist yet."""
        lane = lane if lane in self.answers else 0
        return self.answers[lane][self.shown[lane]] if lane in self.answers else None


@dataclass(frozen=True)
class Head:
    """A conversation in a list."""

    id: str
    title: str
    updated: float


class Threads:
    """All conversations. Its methods take milliseconds; an owner never sees another's (KeyError, as if none were)."""

    def __init__(self, place: str | Path) -> None:
        """place: a file, made if need be, or an SQLAlchemy URL. Raises DataError where it cannot be used."""
        text = str(place)
        try:
            if "://" not in text:
                Path(text).expanduser().parent.mkdir(parents=True, exist_ok=True)
                text = f"sqlite:///{Path(text).expanduser()}"
            self._engine = sa.create_engine(text)
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", _sqlite)
            bring_up(self._engine, _VERSIONS, str(place))
        except (sa.exc.SQLAlchemyError, OSError, ImportError) as error:
            raise DataError(f"Conversations cannot be kept at {place}: {error}. Name another place.") from error

    def close(self) -> None:
        """Lets the database go."""
        self._engine.dispose()

    def heads(self, owner: str, limit: int = 200) -> list[Head]:
        """The owner's conversations, the newest first."""
        order = sa.select(_THREADS).where(_THREADS.c.owner == owner).order_by(_THREADS.c.updated.desc()).limit(limit)
        with self._engine.begin() as db:
            return [Head(row.id, row.title, row.updated) for row in db.execute(order)]

    def head(self, owner: str, thread: str) -> Head:
        """One conversation."""
        with self._engine.begin() as db:
            row = _own(db, owner, thread)
        return Head(row.id, row.title, row.updated)

    def new(self, owner: str, title: str) -> str:
        """Begins a conversation -> its id."""
        name, now = secrets.token_urlsafe(12), time.time()
        row = {"id": name, "owner": owner, "title": title, "created": now, "updated": now, "leaf": None}
        with self._engine.begin() as db:
            db.execute(_THREADS.insert().values(**row, setting="{}"))
        return name

    def rename(self, owner: str, thread: str, title: str) -> None:
        """Gives it another title."""
        with self._engine.begin() as db:
            _own(db, owner, thread)
            db.execute(_THREADS.update().where(_THREADS.c.id == thread).values(title=title))

    def delete(self, owner: str, thread: str) -> None:
        """Forgets it with all that was said in it."""
        with self._engine.begin() as db:
            _own(db, owner, thread)
            db.execute(_THREADS.delete().where(_THREADS.c.id == thread))

    def setting(self, owner: str, thread: str) -> dict[str, Any]:
        """What was chosen for it (models, thinking), as it was kept."""
        with self._engine.begin() as db:
            return dict(json.loads(_own(db, owner, thread).setting))

    def choose(self, owner: str, thread: str, setting: Mapping[str, Any]) -> None:
        """Keeps what was chosen for it."""
        with self._engine.begin() as db:
            _own(db, owner, thread)
            db.execute(_THREADS.update().where(_THREADS.c.id == thread).values(setting=json.dumps(setting)))

    def say(
        self, owner: str, thread: str, parent: int | None, text: str, pictures: Sequence[tuple[str, bytes]] = (),
        keep: Sequence[str] = (),
    ) -> int:  # fmt: skip
        """The person says something after the turn `parent` -> the turn's id; its branch is the one that is shown.

        pictures: (media type, content) of new ones. keep: ids of pictures of this thread that are shown again."""
        now = time.time()
        with self._engine.begin() as db:
            _own(db, owner, thread)
            if parent is not None and parent not in _parents(db, thread):
                raise KeyError(parent)
            turn = db.execute(
                _TURNS.insert().values(thread=thread, parent=parent, text=text, created=now).returning(_TURNS.c.id)
            ).scalar_one()
            old = (_PICTURES.c.id.in_(keep), _PICTURES.c.turn == _TURNS.c.id, _TURNS.c.thread == thread)
            again = {row.id: (row.kind, row.content) for row in db.execute(sa.select(_PICTURES).where(*old))}
            for kind, content in [*(again[i] for i in keep if i in again), *pictures]:
                row = {"id": f"{time.time_ns():x}{secrets.token_hex(6)}", "turn": turn, "kind": kind}
                db.execute(_PICTURES.insert().values(**row, content=content))
            db.execute(_THREADS.update().where(_THREADS.c.id == thread).values(leaf=turn, updated=now))
        return int(turn)

    def begin(self, turn: int, lane: int, model: str, thinking: bool | None, effort: str | None) -> Answer:
        """A model begins to answer; of the answers in this lane, this one is shown."""
        same = (_ANSWERS.c.turn == turn, _ANSWERS.c.lane == lane)
        row = {"turn": turn, "lane": lane, "model": model, "thinking": thinking, "effort": effort, "shown": True}
        with self._engine.begin() as db:
            db.execute(_ANSWERS.update().where(*same).values(shown=False))
            order = _ANSWERS.insert().values(**row, reasoning="", content="", created=time.time())
            made = db.execute(order.returning(_ANSWERS.c.id)).scalar_one()
        return Answer(int(made), lane, model, thinking, effort)

    def save(self, answer: Answer) -> None:
        """Keeps how far an answer is."""
        values = {name: getattr(answer, name) for name in _GROWS}
        with self._engine.begin() as db:
            db.execute(_ANSWERS.update().where(_ANSWERS.c.id == answer.id).values(**values))

    def show_answer(self, turn: int, lane: int, answer: int) -> None:
        """Of the answers in a lane, shows this one."""
        same = (_ANSWERS.c.turn == turn, _ANSWERS.c.lane == lane)
        with self._engine.begin() as db:
            db.execute(_ANSWERS.update().where(*same).values(shown=_ANSWERS.c.id == answer))

    def show_turn(self, owner: str, thread: str, turn: int) -> None:
        """Shows the branch of this turn, to its newest end."""
        with self._engine.begin() as db:
            _own(db, owner, thread)
            parents = _parents(db, thread)
            if turn not in parents:
                raise KeyError(turn)
            while below := [i for i, parent in parents.items() if parent == turn]:
                turn = max(below)
            db.execute(_THREADS.update().where(_THREADS.c.id == thread).values(leaf=turn))

    def turns(self, owner: str, thread: str) -> list[Turn]:
        """The branch that is shown, from its first turn to its last."""
        with self._engine.begin() as db:
            at, parents = _own(db, owner, thread).leaf, _parents(db, thread)
            path: list[int] = []
            while at is not None:
                path.append(at)
                at = parents[at]
            rows = {row.id: row for row in db.execute(sa.select(_TURNS).where(_TURNS.c.id.in_(path)))}
            wanted = sa.select(_ANSWERS).where(_ANSWERS.c.turn.in_(path)).order_by(_ANSWERS.c.id)
            answers = list(db.execute(wanted))
            seen = sa.select(_PICTURES.c.id, _PICTURES.c.turn).where(_PICTURES.c.turn.in_(path))
            pictures = list(db.execute(seen.order_by(_PICTURES.c.id)))
        made = []
        for name in reversed(path):
            siblings = sorted(i for i, parent in parents.items() if parent == parents[name])
            shown = [p.id for p in pictures if p.turn == name]
            turn = Turn(name, parents[name], rows[name].text, shown, siblings.index(name), siblings)
            for row in (a for a in answers if a.turn == name):
                lane = turn.answers.setdefault(row.lane, [])
                if row.shown:
                    turn.shown[row.lane] = len(lane)
                lane.append(Answer(**{f: getattr(row, f) for f in Answer.__dataclass_fields__}))
            made.append(turn)
        return made

    def picture(self, owner: str, name: str) -> tuple[str, bytes]:
        """(media type, content) of a picture. Raises KeyError where the owner has none of this id."""
        joined = _PICTURES.join(_TURNS).join(_THREADS)
        own = (_PICTURES.c.id == name, _THREADS.c.owner == owner)
        with self._engine.begin() as db:
            row = db.execute(sa.select(_PICTURES).select_from(joined).where(*own)).first()
        if row is None:
            raise KeyError(name)
        return row.kind, row.content


def _own(db: sa.Connection, owner: str, thread: str) -> Any:
    row = db.execute(sa.select(_THREADS).where(_THREADS.c.id == thread, _THREADS.c.owner == owner)).first()
    if row is None:
        raise KeyError(thread)
    return row


def _parents(db: sa.Connection, thread: str) -> dict[int, int | None]:
    found = db.execute(sa.select(_TURNS.c.id, _TURNS.c.parent).where(_TURNS.c.thread == thread))
    return {row.id: row.parent for row in found}


def _sqlite(connection: Any, _: Any) -> None:
    """Readers and a writer beside each other, deleting in cascades, and waiting for a lock instead of failing."""
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "busy_timeout=5000", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")
