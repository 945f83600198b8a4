"""Answers of an endpoint: many requests at once on kept connections, each answer graded beside them and recorded.

A request keeps its place until its answer is graded and its record written. So a kill, however hard, makes at most
`concurrency` answers be asked again: those under way and those being graded.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dokja.errors import ConfigError
from dokja.judge.answering import Item, Keep, Origin, Said, request_seed
from dokja.judge.endpoint.client import FIRST_WAIT, Client, Failed
from dokja.judge.endpoint.description import Endpoint
from dokja.judge.endpoint.reply import Reply
from dokja.judge.endpoint.spending import Limits, Spending
from dokja.judge.records import Times, Usage
from dokja.ledger.manifest import code_version
from dokja.tasks.problem import Problem

IN_A_ROW = 16
"""Requests that fail one after another before the run ends."""
BUDGETS = {"dokja": "thinking_budget", "vllm": "thinking_token_budget", "llamacpp": "thinking_budget_tokens"}
"""The field that closes a thought, by what an endpoint's list of models says of their owner."""
_THREADS = 64
_OFF = {
    "top_k": 0, "min_p": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0,
}  # fmt: skip
"""Values that do nothing; they are not sent, because not everybody knows the fields."""


class EndpointAnswerer:
    """`stream` asks for streams, to know when the first token came."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        spending: Spending | None = None,
        stream: bool = False,
        first_wait: float = FIRST_WAIT,
    ) -> None:
        """Raises ConfigError where the key or aiohttp is missing, or a limit of cost cannot be kept."""
        self.endpoint, self._stream, self._first_wait = endpoint, stream, first_wait
        self._spending = spending or Spending(Limits())
        self._spending.priced_in(endpoint.prices, f"the endpoint {endpoint.name}")
        self._budget = endpoint.budget
        self._client()  # what it lacks is said before anything is done
        self.origin = Origin(endpoint.url, "", "", code_version(["tasks"]), endpoint.name)

    def check(self, items: Sequence[Item]) -> None:
        """Raises ConfigError for a mode or a budget that this endpoint cannot be asked for, Stopped where it does not
        answer or does not take the key."""
        e = self.endpoint
        if lacking := {i.mode for i in items} - set(e.modes):
            raise ConfigError(
                f"The endpoint {e.name} can be asked in the mode {' and '.join(e.modes)}, not {', '.join(lacking)}. "
                "Say what turns its thoughts on and off: --thinking enable_thinking or reasoning_effort."
            )
        asyncio.run(self._look())
        if self._budget is None and any(i.mode == "think" and i.sampling.budget is not None for i in items):
            raise ConfigError(
                f"The endpoint {e.name} is not known to close a thought at a budget. Name the field that does, "
                f'such as budget = "{BUDGETS["vllm"]}" in its row of --endpoints, or leave --budget out.'
            )

    async def _look(self) -> None:
        async with self._client() as client:
            listed = await client.models() or []
        mine = [m for m in listed if m.get("id") == self.endpoint.model] or (listed if len(listed) == 1 else [])
        if self._budget is None and mine:
            self._budget = BUDGETS.get(str(mine[0].get("owned_by")))

    def answer(self, items: Sequence[Item], seed: int, keep: Keep) -> str | None:
        """Asks for all of them. Raises Stopped where the endpoint serves nothing any more."""
        return asyncio.run(self._all(items, seed, keep))

    def _client(self) -> Client:
        return Client(self.endpoint, stream=self._stream, first_wait=self._first_wait)

    async def _all(self, items: Sequence[Item], seed: int, keep: Keep) -> str | None:
        if over := self._spending.over():
            return over
        waiting, failed = iter(items), _Failures()
        workers = min(self.endpoint.concurrency, len(items))
        with ThreadPoolExecutor(min(workers, _THREADS)) as pool:
            async with self._client() as client:
                tasks = [
                    asyncio.create_task(self._work(client, waiting, seed, keep, pool, failed)) for _ in range(workers)
                ]
                try:
                    await asyncio.gather(*tasks)
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
        return failed.words() or self._spending.over()

    async def _work(
        self,
        client: Client,
        waiting: Iterator[Item],
        seed: int,
        keep: Keep,
        pool: ThreadPoolExecutor,
        failed: _Failures,
    ) -> None:
        loop = asyncio.get_running_loop()
        for item in waiting:
            body, digest = self._body(item, seed)
            try:
                reply, times = await self._ask(client, body, random.Random(request_seed(seed, item.key)))
            except Failed as error:
                failed.add(item.problem, str(error))
            else:
                failed.in_a_row = 0
                self._spending.add(reply.usage, self.endpoint.prices)
                said = said_of(item, reply, times, digest, self.endpoint)
                # shielded: what is paid for is recorded, also where the run ends meanwhile
                await asyncio.shield(loop.run_in_executor(pool, keep, item, said))
            if failed.in_a_row >= IN_A_ROW or self._spending.over():
                return

    async def _ask(self, client: Client, body: dict[str, Any], rng: random.Random) -> tuple[Reply, Times]:
        """An answer may take what the context leaves, as with our engine: where length and prompt together are too
        long, the length is left out, and where the prompt alone is, the answer is empty and cut off."""
        try:
            return await client.chat(body, rng)
        except Failed as error:
            if not error.context:
                raise
        try:
            return await client.chat({k: v for k, v in body.items() if k != self.endpoint.length}, rng)
        except Failed as error:
            if not error.context:
                raise
            return Reply("", "", "", "length", Usage()), Times(0.0, 2)

    def _body(self, item: Item, seed: int) -> tuple[dict[str, Any], str]:
        """(body of the request, SHA-256 of its messages)."""
        e, sampling, thinking = self.endpoint, item.sampling, item.mode == "think"
        messages = [message.to_dict() for message in item.problem.messages]
        body: dict[str, Any] = {
            "model": e.model,
            "messages": messages,
            e.length: sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request_seed(seed, item.key) & 0x7FFFFFFF,  # as much as every engine takes
        }
        body |= {k: value for k, off in _OFF.items() if (value := getattr(sampling, k)) != off}
        body |= e.switch(thinking)
        if thinking and sampling.budget is not None and self._budget is not None:
            body[self._budget] = sampling.budget
        text = json.dumps(messages, ensure_ascii=False, sort_keys=True)
        return body, hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


class _Failures:
    """Requests without an answer."""

    def __init__(self) -> None:
        self.count = self.in_a_row = 0
        self._example = ""

    def add(self, problem: Problem, why: str) -> None:
        self.count, self.in_a_row = self.count + 1, self.in_a_row + 1
        self._example = f"{problem.id}: {why}"

    def words(self) -> str:
        """What failed, in words; empty where nothing did."""
        if not self.count:
            return ""
        ended = f", {self.in_a_row} of them in a row, which ended the run" if self.in_a_row >= IN_A_ROW else ""
        return f"{self.count} failed{ended}, such as {self._example}"


def said_of(item: Item, reply: Reply, times: Times, digest: str, endpoint: Endpoint) -> Said:
    """What an endpoint said, as records have it. The mode is wrong where a thought came that was not asked for, or none
    that was, as far as the endpoint shows thoughts at all."""
    thought = bool(reply.reasoning.strip()) or reply.usage.reasoning_tokens > 0
    if item.mode == "direct":
        wrong = thought or reply.left_open
    else:
        wrong = reply.left_open or (not thought and endpoint.reasoning != "none")
    return Said(
        raw=reply.raw,
        reasoning=reply.reasoning,
        answer=reply.content,
        finish=reply.finish,
        truncated=reply.finish == "length" or reply.left_open,
        wrong_mode=wrong,
        usage=reply.usage,
        prompt_sha256=digest,
        times=times,
    )
