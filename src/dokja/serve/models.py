"""The models that one server serves, by name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

from dokja.errors import ConfigError
from dokja.serve.client import EngineClient
from dokja.serve.facts import Facts
from dokja.serve.limits import Admission, Limits


class Model:
    """A name, the engine behind it, and what is known of it."""

    def __init__(self, name: str, client: EngineClient, limits: Limits) -> None:
        self.name, self.client, self.admission = name, client, Admission(limits)
        self.created = int(time.time())
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

    @property
    def slots(self) -> int:
        """Answers that are written at once."""
        return int(self.client.stats().get("slots", 1))


class Models:
    """All of them; the first one is who answers where nobody is named."""

    def __init__(self, models: Iterable[Model]) -> None:
        """Raises ConfigError for two models of one name, or for none."""
        self._models: dict[str, Model] = {}
        for model in models:
            if model.name in self._models:
                raise ConfigError(f"Two models are called {model.name!r}. Name them apart: NAME=FOLDER.")
            self._models[model.name] = model
        if not self._models:
            raise ConfigError("There is no model to serve. Name at least one.")

    def __iter__(self) -> Any:
        return iter(self._models.values())

    def get(self, name: str) -> Model | None:
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
