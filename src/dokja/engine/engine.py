"""Continuous batching: every step gives each running sequence a token; freed slots are filled from the queue.

    submit ──► waiting ──(a slot is free: prefill, first token)──► running ──(one decode a step)──► Completion

Running sequences lie in slots 0..n-1; when one ends, the last takes its slot, so a finished sequence costs the rest
nothing. Per step there is one forward, one sampling and one transfer to Python, whatever the number of sequences. With
drafts (`engine.draft`) a step gives each sequence one to `draft` + 1 tokens, as many as were foreseen.

`generate` and `complete` drive a whole set of requests. `submit`, `step` and `abort` are the same engine by hand, for
whoever has a loop of its own (the server, the RL sampler).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dokja.engine.api import Completion, Event, Request
from dokja.engine.choose import choose
from dokja.engine.draft import Drafter, MtpDrafter
from dokja.engine.forward import Forward
from dokja.engine.packed import Bits
from dokja.engine.running import Running
from dokja.engine.sampler import Needs, Sampler
from dokja.errors import CheckpointError, ConfigError, DokjaError
from dokja.model.decoder import Decoder
from dokja.text.images import token_count


class Engine:
    """Batched sampling from one decoder, on one device.

    slots: sequences at once. dtype: of weights and cache; scores are fp32 always. chunk: the most tokens of one
    prompt in one pass, prefill_tokens: of all prompts together (padding included); both bound memory, neither
    changes a result. draft: tokens that the model's multi-token head proposes a step; answers are the same with any.
    weights: of a large model on the CPU in 16, 8 or 4 bits, with a bf16 cache (see `engine.wide`).
    """

    def __init__(
        self,
        model: Decoder,
        *,
        slots: int = 128,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        chunk: int = 512,
        prefill_tokens: int = 2048,
        draft: int = 0,
        weights: Bits | None = None,
    ):
        if min(slots, chunk, prefill_tokens) < 1:
            raise ConfigError(f"slots ({slots}), chunk ({chunk}) and prefill_tokens ({prefill_tokens}) start at 1.")
        if draft < 0:
            raise ConfigError(f"draft is {draft}. Use 0 for none, or the tokens to propose a step.")
        self.spec, self.slots = model.spec, slots
        dtype = torch.bfloat16 if weights else dtype
        self._forward = Forward(model, slots, dtype, device, chunk, draft, weights)
        self._drafter: Drafter | None = MtpDrafter(self._forward, draft) if draft else None
        # A place for an image that no image fills would mean nothing, to the trainer least of all.
        self._sampler = Sampler(slots, device, self.spec.vision.image_token if self.spec.vision else None)
        self._prefill_tokens = prefill_tokens
        self._waiting: deque[Running] = deque()
        self._running: list[Running] = []
        self._ids: set[str] = set()
        self._last = torch.zeros(slots, dtype=torch.int64, device=device)
        self._position = torch.zeros(slots, dtype=torch.int64, device=device)  # where _last stands in its sequence
        self._ahead = torch.arange(draft + 1, device=device)
        self._needs: Needs | None = None  # known until a sequence comes or goes
        self._prompt_tokens = self._tokens = self._steps = self._drafted = self._accepted = 0
        self._seconds = 0.0

    # --- whole sets of requests ---------------------------------------------------------------------------------

    def generate(self, requests: Iterable[Request]) -> Iterator[Event]:
        """Events of all requests, interleaved as they come; requests are taken from the iterable as slots free up.

        Dropping the iterator aborts what is left. Raises DokjaError for a request that cannot be served.
        """
        self._only_user()
        source, more = iter(requests), True
        try:
            while True:
                while more and len(self._waiting) < self.slots:
                    if (request := next(source, None)) is None:
                        more = False
                    else:
                        self.submit(request)
                if not self._ids:
                    return
                events = self.step()
                ended = {event.id for event in events if event.finish is not None}
                for event in events:
                    # a reader may abort between two events of one step
                    if event.id in ended or event.id in self._ids:
                        yield event
        finally:
            self._clear()

    def complete(
        self, requests: Iterable[Request], on_done: Callable[[Completion], object] | None = None
    ) -> list[Completion]:
        """All answers, in the order of the requests; `on_done` hears of each as soon as it is there.

        Every request is checked before the first is started; raises DokjaError for one that cannot be served.
        """
        self._only_user()
        done: dict[str, Completion] = {}
        try:
            order = [self.submit(request) for request in requests]
            while self._ids:
                for completion in self._advance(None):
                    done[completion.id] = completion
                    if on_done is not None:
                        on_done(completion)
        finally:
            self._clear()
        return [done[name] for name in order]

    def _only_user(self) -> None:
        if self._ids:
            raise RuntimeError("this engine is busy: finish or abort its requests before driving another set")

    def _clear(self) -> None:
        for name in list(self._ids):
            self.abort(name)

    # --- by hand ------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> str:
        """Puts a request into the queue and returns its id. Raises DokjaError where it cannot be served."""
        name, room = request.id, self.spec.context - len(request.prompt)
        if room < 1:
            raise DokjaError(
                f"The prompt of request {name!r} has {len(request.prompt)} tokens, and this model's context of "
                f"{self.spec.context} must hold prompt and answer. Shorten it to {self.spec.context - 1} or less."
            )
        used = (*request.prompt, *request.think_close)
        if min(used) < 0 or max(used) >= self.spec.vocab:
            raise DokjaError(
                f"Request {name!r} holds token ids outside this model's vocabulary of {self.spec.vocab}. "
                "Encode it with the tokenizer that lies beside the weights."
            )
        self._check_images(request)
        if name in self._ids:
            raise DokjaError(f"A request with the id {name!r} is at work already. Give each request its own id.")
        sequence = Running(request, min(request.max_tokens, room), open_thought=request.think_budget is not None)
        self._ids.add(name)
        self._waiting.append(sequence)
        return name

    def _check_images(self, request: Request) -> None:
        """Raises DokjaError where the images do not fill the places that the prompt keeps for them."""
        vision, name = self.spec.vision, request.id
        if vision is None:
            if request.images:
                raise DokjaError(f"Request {name!r} holds images, and this model has no vision tower. Remove them.")
            return
        kept = request.prompt.count(vision.image_token)
        needed = sum(token_count(image.grid, vision.merge) for image in request.images)
        if kept != needed:
            raise DokjaError(
                f"The prompt of request {name!r} keeps {kept} places for images, and its images take {needed}. "
                "Encode it with engine.answers.encode_prompt."
            )
        if any(image.values.shape[1] != vision.patch_values for image in request.images):
            raise DokjaError(
                f"The images of request {name!r} were cut for another model. Cut them with the image config that lies "
                "beside the weights."
            )

    def step(self) -> list[Event]:
        """Fills free slots from the queue, then gives every running sequence a token. Empty when nothing is left."""
        events: list[Event] = []
        self._advance(events)
        return events

    @torch.inference_mode()
    def abort(self, name: str) -> Completion | None:
        """Ends a request now and frees its slot -> what it wrote so far, or None where it is not at work."""
        for sequence in self._waiting:
            if sequence.request.id == name:
                self._waiting.remove(sequence)
                self._ids.remove(name)
                return sequence.completion("abort")
        for row, sequence in enumerate(self._running):
            if sequence.request.id == name:
                self._remove(row)
                return sequence.completion("abort")
        return None

    def stats(self) -> dict[str, Any]:
        """running, waiting, slots now; prompt_tokens, tokens (written), steps, seconds at work, tokens_per_second;
        drafted, accepted tokens and their share, acceptance."""
        rate = self._tokens / self._seconds if self._seconds else 0.0
        return {
            "running": len(self._running),
            "waiting": len(self._waiting),
            "slots": self.slots,
            "prompt_tokens": self._prompt_tokens,
            "tokens": self._tokens,
            "steps": self._steps,
            "seconds": self._seconds,
            "tokens_per_second": rate,
            "drafted": self._drafted,
            "accepted": self._accepted,
            "acceptance": self._accepted / self._drafted if self._drafted else 0.0,
        }

    def load_weights(self, path: str | Path) -> None:
        """Takes the weights of another folder of the same shape. Raises DokjaError while requests are at work."""
        from dokja.engine.load import find_folder, load_decoder

        self.take_weights(load_decoder(find_folder(path)), str(path))

    def take_weights(self, model: Decoder, name: str = "The other model") -> None:
        """Takes the weights of a live model of the same shape, such as the one that RL trains.

        An fp32 engine shares the parameters of the very model it was made of; those are not copied.
        Raises DokjaError while requests are at work, CheckpointError for another shape.
        """
        if self._ids:
            raise DokjaError("Weights cannot change under running requests. Wait for them or abort them first.")
        if model.spec != self.spec:
            raise CheckpointError(f"{name} is of another shape than this engine. Load it into a new engine.")
        with torch.no_grad():
            for own, new in zip(self._forward.model.parameters(), model.parameters(), strict=True):
                if own is not new:
                    own.copy_(new)

    # --- one step -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _advance(self, events: list[Event] | None) -> list[Completion]:
        """One step; events are made only where somebody wants them."""
        began = time.perf_counter()
        done = self._admit(events)
        if n := len(self._running):
            longest = max(s.length for s in self._running)
            last, position, drafts = self._last[:n], self._position[:n], None
            if self._drafter is None:
                logits, place = self._forward.decode(last, position, longest), position.add_(1)
            else:
                longest += self._drafter.depth
                drafts = self._drafter.propose(self._running, last, position, longest)
                place = position[:, None] + self._ahead
                logits = self._forward.verify(torch.cat((last[:, None], drafts), 1), place, longest)
                place = place.add_(1).view(-1)
            if self._needs is None:
                self._needs = self._sampler.needs(0, n)
            done += self._emit(0, logits, place, self._needs, events, drafts)
        self._steps += 1
        self._seconds += time.perf_counter() - began
        return done

    def _admit(self, events: list[Event] | None) -> list[Completion]:
        """Prefills waiting requests into free slots, several at a time: one pass over a few costs little more.

        Requests with one and the same prompt and images, such as the answers of a group in RL, are read once.
        """
        done: list[Completion] = []
        free = self.slots - len(self._running)
        if not self._waiting or (self._running and free < min(len(self._waiting), max(1, self.slots // 8))):
            return done
        alike: dict[object, list[Running]] = {}
        for _ in range(min(free, len(self._waiting))):
            sequence = self._waiting.popleft()
            alike.setdefault((tuple(sequence.request.prompt), sequence.request.images), []).append(sequence)
        groups = sorted(
            alike.values(), key=lambda g: -len(g[0].request.prompt)
        )  # neighbours of like length: no padding
        while groups:
            size = max(1, self._prefill_tokens // min(len(groups[0][0].request.prompt), self._forward.chunk))
            done += self._prefill(groups[:size], events)
            groups = groups[size:]
        return done

    def _prefill(self, groups: list[list[Running]], events: list[Event] | None) -> list[Completion]:
        """Reads the prompt of each group once, copies it to the slots of the others, and draws first tokens."""
        first, prompts = len(self._running), [g[0].request.prompt for g in groups]
        logits = self._forward.prefill(first, prompts, [g[0].request.images for g in groups])
        group = [g[0] for g in groups]
        if others := [(row, sequence) for row, g in enumerate(groups) for sequence in g[1:]]:
            rows = [row for row, _ in others]
            self._forward.cache.copy([first + row for row in rows], first + len(groups), len(prompts[0]))
            logits = logits[[*range(len(groups)), *rows]]
            group += [sequence for _, sequence in others]
        lengths = [len(s.request.prompt) for s in group]
        self._running += group
        self._needs = None
        self._position[first : first + len(group)] = torch.tensor(lengths)
        for slot, sequence in enumerate(group, first):
            self._sampler.put(slot, sequence.request)
        self._prompt_tokens += sum(lengths)
        place = self._position[first : first + len(group)]
        return self._emit(first, logits, place, self._sampler.needs(first, len(self._running)), events)

    def _emit(
        self,
        first: int,
        logits: Tensor,
        place: Tensor,
        needs: Needs,
        events: list[Event] | None,
        drafts: Tensor | None = None,
    ) -> list[Completion]:
        """Chooses the next tokens of the slots from `first` on; what has ended gives up its slot."""
        running = self._running[first:]
        count = len(running)
        chosen = choose(self._sampler, running, first, logits, place, needs, events, drafts)
        self._tokens += chosen.taken
        if drafts is None:
            self._last[first : first + count] = chosen.tokens
        else:
            self._keep(chosen.tokens, place, torch.tensor(chosen.last, device=place.device))
            self._drafted += len(chosen.tokens) - count
            self._accepted += chosen.taken - count
        done = [running[row].completion(finish) for row, finish in chosen.ended]
        for row, _ in reversed(chosen.ended):
            self._remove(first + row)
        return done

    def _keep(self, chosen: Tensor, place: Tensor, row_B: Tensor) -> None:
        """Every running sequence goes on behind this row of the last `verify`."""
        n = len(row_B)
        torch.index_select(chosen, 0, row_B, out=self._last[:n])
        torch.index_select(place, 0, row_B, out=self._position[:n])
        self._forward.accept(row_B)

    def _remove(self, row: int) -> None:
        """Frees a slot: the last running sequence moves into it."""
        self._ids.remove(self._running[row].request.id)
        moved = self._running.pop()
        last = len(self._running)
        self._needs = None
        if row != last:
            self._running[row] = moved
            self._forward.cache.move(last, row, moved.length)
            self._sampler.move(last, row)
            self._last[row], self._position[row] = self._last[last], self._position[last]
