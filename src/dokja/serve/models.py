"""The models that one server serves, by name."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from dokja.engine.api import answers_of
from dokja.errors import ConfigError
from dokja.serve.asking import Ask, Plan, Refusal, plain_plan, plan
from dokja.serve.client import EngineClient, State
from dokja.serve.facts import Facts
from dokja.serve.limits import Admission, Limits
from dokja.serve.reading import Part, Usage
from dokja.serve.turn import Done, answer

Said = Callable[[], dict[str, Any]]
"""The request as this server's chat or completions API spells it, without the fields that say how it is answered."""


class Spelling(Protocol):
    """What tokens say."""

    def decode(self, ids: Iterable[int], *, markers: bool = False) -> str: ...
    def decode_bytes(self, ids: Iterable[int]) -> bytes: ...


class Client(Protocol):
    """What is asked of any engine's client by those who only start, watch and stop it."""

    info: dict[str, Any]

    @property
    def state(self) -> State: ...
    @property
    def heartbeat_age(self) -> float: ...
    @property
    def in_flight(self) -> int: ...
    def stats(self) -> dict[str, Any]: ...
    async def start(self) -> None: ...
    async def stop(self, deadline: float = 0.0) -> None: ...
    async def reload(self) -> None: ...


class Job(Protocol):
    """One answer to be written."""

    @property
    def ask(self) -> Ask: ...
    @property
    def size(self) -> int:
        """Tokens of its prompt; a guess where only the engine knows."""

    @property
    def prompt(self) -> object:
        """The same object for all answers to one prompt."""


class Served(ABC):
    """A name, and who answers behind it."""

    client: Client

    def __init__(self, name: str, limits: Limits) -> None:
        self.name, self.admission = name, Admission(limits)
        self.created = int(time.time())

    @property
    def slots(self) -> int:
        """Answers that are written at once."""
        return int(self.client.stats().get("slots", 1))

    async def read_facts(self) -> None:  # noqa: B027 - most have nothing to read
        """Reads what has to be read before the first request."""

    @abstractmethod
    def told(self) -> dict[str, Any]:
        """What a list of models says of it beside its name."""

    @abstractmethod
    def spelling(self) -> Spelling:
        """For the tokens of one request's answers."""

    @abstractmethod
    def chat(self, ask: Ask, name: str, most: int | None, said: Said) -> Job:
        """The next turn of a conversation. Raises DokjaError for what cannot be."""

    @abstractmethod
    def plain(self, ask: Ask, name: str, prompt: str | list[int], most: int | None, said: Said) -> Job:
        """A text to go on with. Raises DokjaError for what cannot be."""

    @abstractmethod
    def several(self, job: Any, n: int) -> Sequence[Job]:
        """The job n times, each with a seed of its own."""

    @abstractmethod
    def answer(
        self, job: Any, spelling: Any, until: float | None, usage: Usage
    ) -> AsyncGenerator[list[Part] | Done, None]:
        """See `turn.answer`."""

    async def embed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Embeddings, as OpenAI's API has them. Raises Refusal where the model has none to give."""
        raise Refusal(
            f"The model {self.name!r} writes text and gives no embeddings: hidden states of a model that was not "
            "trained for them find little. Use one that was, in an engine that serves it: dokja serve --engine.",
            "model",
            "unsupported_model",
        )

    @abstractmethod
    def text(self, job: Any) -> str:
        """What it is asked, for a log that wants it."""


class Model(Served):
    """A model of our own engine."""

    client: EngineClient

    def __init__(self, name: str, client: EngineClient, limits: Limits) -> None:
        super().__init__(name, limits)
        self.client = client
        self._info: Mapping[str, Any] = {}
        self._facts: Facts | None = None

    @property
    def facts(self) -> Facts:
        """Of the weights that new requests go to. Raises DataError where their folder is gone."""
        if self._facts is None or self.client.info is not self._info:
            self._facts, self._info = Facts.from_info(self.client.info), self.client.info
        return self._facts

    async def read_facts(self) -> None:
        """Reads `facts` beside the event loop: a large tokenizer takes a second."""
        await asyncio.to_thread(lambda: self.facts)

    def told(self) -> dict[str, Any]:
        """Context, modes, and what it can."""
        facts = self.facts
        return {
            "max_model_len": facts.context,
            "modes": facts.style.modes,
            "vision": facts.images is not None,
            "tools": facts.style.tools,
            "sha256": facts.sha256,
        }

    def spelling(self) -> Spelling:
        """Its tokenizer."""
        return self.facts.tokenizer

    def chat(self, ask: Ask, name: str, most: int | None, said: Said) -> Plan:
        """Rendered and encoded here."""
        return plan(ask, self.facts, name, most)

    def plain(self, ask: Ask, name: str, prompt: str | list[int], most: int | None, said: Said) -> Plan:
        """Encoded here."""
        return plain_plan(ask, self.facts, name, prompt, most)

    def several(self, job: Plan, n: int) -> Sequence[Plan]:
        """They share the prompt."""
        return [replace(job, request=one) for one in answers_of(job.request, n)]

    def answer(
        self, job: Plan, spelling: Any, until: float | None, usage: Usage
    ) -> AsyncGenerator[list[Part] | Done, None]:
        """Of the engine process."""
        return answer(self.client, self.facts, job, until, usage)

    def text(self, job: Plan) -> str:
        """The rendered prompt, markers and all."""
        return self.facts.tokenizer.decode(job.request.prompt, markers=True)


class Models:
    """All of them; the first one is who answers where nobody is named."""

    def __init__(self, models: Iterable[Served]) -> None:
        """Raises ConfigError for two models of one name, or for none."""
        self._models: dict[str, Served] = {}
        for model in models:
            if model.name in self._models:
                raise ConfigError(f"Two models are called {model.name!r}. Name them apart: NAME=FOLDER.")
            self._models[model.name] = model
        if not self._models:
            raise ConfigError("There is no model to serve. Name at least one.")

    def __iter__(self) -> Iterator[Served]:
        return iter(self._models.values())

    def get(self, name: str) -> Served | None:
        """The model of this name."""
        return self._models.get(name)

    async def start(self) -> None:
        """Loads all of them, one after the other: they share the machine. Raises EngineLost for what fails."""
        for model in self:
            await model.client.start()
            await model.read_facts()

    async def reload(self) -> None:
        """Loads every model again from where it lies, one after the other, and lets nobody notice. Raises EngineLost
        for the first one that cannot be; it goes on as it was."""
        for model in self:
            await model.client.reload()
            await model.read_facts()

    async def stop(self, deadline: float) -> None:
        """Lets what runs finish for `deadline` seconds, then ends the engines."""
        await asyncio.gather(*(model.client.stop(deadline) for model in self))
