"""Continuous batching: prompts are read in chunks while running sequences go on; freed slots are filled from the queue.

    submit ──► waiting ──(a slot and pages are free)──► reading ──(first token)──► running ──► Completion

A step begins with what waits (`engine.schedule`), reads at most `prefill_tokens` of prompts, and then gives every
running sequence a token. So a long prompt makes the others wait for one step's share of it, not for all of it. Per step
there is one forward, one sampling and one transfer to Python, whatever the number of sequences. With drafts
(`engine.draft`) a step gives each sequence one token or more, as many as were foreseen.

`generate` and `complete` drive a whole set of requests. `submit`, `step` and `abort` are the same engine by hand, for
whoever has a loop of its own (the server, the RL sampler).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dokja.engine.api import Completion, Event, Request
from dokja.engine.batch import Batch, Scheduled
from dokja.engine.choose import choose
from dokja.engine.draft import Drafter, MtpDrafter
from dokja.engine.forward import Chunk, Forward
from dokja.engine.grammar import Grammars
from dokja.engine.lookup import LookupDrafter
from dokja.engine.packed import Bits, PackedWeights
from dokja.engine.pages import PAGE
from dokja.engine.sampler import Sampler
from dokja.engine.schedule import Schedule
from dokja.engine.scored import prompt_scores
from dokja.errors import CheckpointError, ConfigError, DokjaError
from dokja.model.decoder import Decoder
from dokja.text.images import token_count
from dokja.text.tokenizer import Tokenizer


class Engine:
    """Batched sampling from one decoder, on one device.

    slots: sequences at once. dtype: of weights and cache; scores are fp32 always. chunk: the most tokens of one
    prompt in one pass, prefill_tokens: of all prompts in one step; both bound memory and how long running answers
    wait, neither changes a result. kv_tokens: positions that fit into the cache of global layers, of all sequences
    together (None: as many as they need); answers are the same with any that holds one of them. prefix_tokens:
    positions kept for prompts that begin alike, beyond those in use (0: only what free pages hold); no answer changes.
    draft: the most tokens that are proposed a step; answers are the same with any. drafter: who proposes them, the
    model's multi-token head or a look-up in the text so far (None: the head where there is one). weights: of a large
    model on the CPU in 16, 8 or 4 bits, with a bf16 cache (see `engine.wide`). tokenizer: needed by requests with stop
    strings or grammars, and to tell white space from an answer.
    """

    def __init__(
        self,
        model: Decoder | PackedWeights,
        *,
        slots: int = 128,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        chunk: int = 512,
        prefill_tokens: int = 2048,
        kv_tokens: int | None = None,
        prefix_tokens: int = 8192,
        draft: int = 0,
        drafter: Literal["mtp", "lookup"] | None = None,
        weights: Bits | None = None,
        tokenizer: Tokenizer | None = None,
    ):
        if min(slots, chunk, prefill_tokens) < 1:
            raise ConfigError(f"slots ({slots}), chunk ({chunk}) and prefill_tokens ({prefill_tokens}) start at 1.")
        if draft < 0:
            raise ConfigError(f"draft is {draft}. Use 0 for none, or the tokens to propose a step.")
        self.spec, self.slots = model.spec, slots
        dtype = torch.bfloat16 if weights or isinstance(model, PackedWeights) else dtype
        self._head = draft > 0 and (drafter or ("mtp" if self.spec.mtp else "lookup")) == "mtp"
        self._forward = Forward(
            model, slots, dtype, device, chunk, draft, weights, head=self._head, tokens=kv_tokens, keep=prefix_tokens
        )
        self._drafter: Drafter | None = None
        if draft:
            self._drafter = MtpDrafter(self._forward, draft) if self._head else LookupDrafter(draft)
        # A place for an image that no image fills would mean nothing, to the trainer least of all.
        self._sampler = Sampler(slots, device, self.spec.vision.image_token if self.spec.vision else None)
        self._prefill_tokens, self._tokenizer = prefill_tokens, tokenizer
        self._grammars = Grammars(tokenizer, self.spec.vocab)
        self._batch = Batch(self._forward.rows, self._sampler)
        self._schedule = Schedule(self._forward, self._batch, slots, draft)
        self._context = min(self.spec.context, self._forward.cache.room - draft)
        if self._context < 2:
            raise ConfigError(
                f"kv_tokens is {kv_tokens}, which holds no prompt and answer. Use at least {2 * PAGE + draft}, or None."
            )
        self._sequences: dict[str, Scheduled] = {}
        self._ahead = torch.arange(draft + 1, device=device)
        self._order = self._prompt_tokens = self._tokens = self._steps = self._drafted = self._accepted = 0
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
                while more and len(self._schedule.waiting) < self.slots:
                    if (request := next(source, None)) is None:
                        more = False
                    else:
                        self.submit(request)
                if not self.busy:
                    return
                events = self.step()
                ended = {event.id for event in events if event.finish is not None}
                for event in events:
                    # a reader may abort between two events of one step
                    if event.id in ended or event.id in self._sequences:
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
            while self.busy:
                for completion in self._advance(None):
                    done[completion.id] = completion
                    if on_done is not None:
                        on_done(completion)
        finally:
            self._clear()
        return [done[name] for name in order]

    def _only_user(self) -> None:
        if self.busy:
            raise RuntimeError("this engine is busy: finish or abort its requests before driving another set")

    def _clear(self) -> None:
        for name in list(self._sequences):
            self.abort(name)

    # --- by hand ------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether requests wait or are at work."""
        return bool(self._sequences)

    def prepare(self, request: Request) -> None:
        """Compiles a request's grammar, which may take seconds, so that `submit` finds it. From any thread. Raises
        DokjaError for one that cannot be enforced."""
        self._grammars.of(request)

    def submit(self, request: Request) -> str:
        """Puts a request into the queue and returns its id. Raises DokjaError where it cannot be served."""
        name, room = request.id, self._context - len(request.prompt)
        if room < 1:
            what = "this model's context" if self._context == self.spec.context else "this engine's cache (kv_tokens)"
            raise DokjaError(
                f"The prompt of request {name!r} has {len(request.prompt)} tokens, and {what} of {self._context} must "
                f"hold prompt and answer. Shorten it to {self._context - 1} or less."
            )
        used = (*request.prompt, *request.think_close, *(token for token, _ in request.logit_bias))
        if min(used) < 0 or max(used) >= self.spec.vocab:
            raise DokjaError(
                f"Request {name!r} holds token ids outside this model's vocabulary of {self.spec.vocab}. "
                "Encode it with the tokenizer that lies beside the weights."
            )
        self._check_images(request)
        if name in self._sequences:
            raise DokjaError(f"A request with the id {name!r} is at work already. Give each request its own id.")
        matcher, limit = self._grammars.of(request), min(request.max_tokens, room)
        sequence = Scheduled(request, limit, tokenizer=self._tokenizer, matcher=matcher, order=self._order)
        self._order += 1
        self._sequences[name] = sequence
        self._schedule.waiting.append(sequence)
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

    def step(self, done: list[Completion] | None = None) -> list[Event]:
        """Fills free slots from the queue, reads on, and gives every running sequence a token. Empty when nothing is
        left (`busy`), and where all that is at work is still being read.

        What ended goes into `done` as well, whole.
        """
        events: list[Event] = []
        ended = self._advance(events)
        if done is not None:
            done += ended
        return events

    @torch.inference_mode()
    def abort(self, name: str) -> Completion | None:
        """Ends a request now and frees its slot and pages -> what it wrote so far, or None where it is not at work."""
        if (sequence := self._sequences.pop(name, None)) is None:
            return None
        self._schedule.abort(sequence)
        return sequence.completion("abort")

    def stats(self) -> dict[str, Any]:
        """running, reading (prompts), waiting, slots now; prompt_tokens, read_tokens (those that had to be computed,
        again after a preemption), reused_tokens (of prompts, that were there), tokens (written), steps, seconds at
        work, tokens_per_second; drafted, accepted tokens and their share, acceptance; preemptions (answers put back for
        lack of pages); pages: total, used, cached (not used, but known for reuse)."""
        schedule, running = self._schedule, len(self._batch.sequences)
        return {
            "running": running,
            "reading": len(self._sequences) - len(schedule.waiting) - running,
            "waiting": len(schedule.waiting),
            "slots": self.slots,
            "prompt_tokens": self._prompt_tokens,
            "read_tokens": schedule.read_tokens,
            "reused_tokens": schedule.reused_tokens,
            "tokens": self._tokens,
            "steps": self._steps,
            "seconds": self._seconds,
            "tokens_per_second": self._tokens / self._seconds if self._seconds else 0.0,
            "drafted": self._drafted,
            "accepted": self._accepted,
            "acceptance": self._accepted / self._drafted if self._drafted else 0.0,
            "preemptions": schedule.preemptions,
            "pages": self._forward.cache.pages(),
        }

    def load_weights(self, path: str | Path) -> None:
        """Takes the weights of another folder or GGUF file of the same shape. Raises DokjaError while requests are at
        work."""
        from dokja.engine.load import find_place, load_decoder

        self.take_weights(load_decoder(find_place(path)), str(path))

    def take_weights(self, model: Decoder, name: str = "The other model") -> None:
        """Takes the weights of a live model of the same shape, such as the one that RL trains.

        An fp32 engine shares the parameters of the very model it was made of; those are not copied.
        Raises DokjaError while requests are at work, CheckpointError for another shape.
        """
        if self.busy:
            raise DokjaError("Weights cannot change under running requests. Wait for them or abort them first.")
        if model.spec != self.spec:
            raise CheckpointError(f"{name} is of another shape than this engine. Load it into a new engine.")
        self._forward.take(model)

    # --- one step -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _advance(self, events: list[Event] | None) -> list[Completion]:
        """One step; events are made only where somebody wants them."""
        began = time.perf_counter()
        self._schedule.admit()
        done = self._read(events)
        self._schedule.make_room()
        if self._batch.sequences:
            done += self._go_on(events)
        self._steps += 1
        self._seconds += time.perf_counter() - began
        return done

    def _read(self, events: list[Event] | None) -> list[Completion]:
        """Reads on in the prompts; those that are read to the end get their first token."""
        done: list[Completion] = []
        left = self._prefill_tokens
        while left > 0 and (some := self._schedule.chunks(left)):
            left -= sum(chunk.stop - chunk.start for _, chunk in some)
            logits = self._scores_of(some)
            ready, which = self._schedule.took(some)
            if not ready:
                continue
            self._prompt_tokens += sum(len(s.text) for s in ready if not s.tokens)
            first = self._batch.join(ready)
            if len(ready) > len(logits):
                logits = logits[which]
            done += self._emit(first, logits, self._batch.position[first : first + len(ready)], events)
        return done

    def _scores_of(self, some: list[tuple[Scheduled, Chunk]]) -> Tensor:
        """Reads chunks -> logits [N, V] after each text that ends here, in order. Prompts that are to be scored are
        read one by one and heard token by token."""
        plain = [chunk for s, chunk in some if not s.unscored]
        if len(plain) == len(some):
            return self._forward.read(plain)
        others = iter(self._forward.read(plain) if plain else ())
        ends: list[Tensor] = []
        for s, chunk in some:
            ended, request = chunk.stop == len(chunk.text), s.request
            if s.unscored:
                logits_LV = self._forward.read_scored(chunk)
                tokens = request.prompt[chunk.start + 1 : chunk.stop + 1]
                s.prompt_scores += prompt_scores(logits_LV, tokens, request.prompt_logprobs or 0)
                if ended:
                    ends.append(logits_LV[-1].clone())
            elif ended:
                ends.append(next(others))
        return torch.stack(ends) if ends else torch.empty(0, self.spec.vocab)

    def _go_on(self, events: list[Event] | None) -> list[Completion]:
        """Gives every running sequence a token, or as many as its drafts foresaw."""
        batch = self._batch
        n = len(batch.sequences)
        longest = max(s.length for s in batch.sequences)
        last, position = batch.last[:n], batch.position[:n]
        drafts = None
        if self._drafter is not None:
            drafts = self._drafter.propose(batch.sequences, last, position, longest + self._drafter.depth)
        if drafts is None or not (drafts.shape[1] or self._head):  # the head has to hear of every token
            logits = self._forward.decode(last, position, longest)
            return self._emit(0, logits, position.add_(1), events)
        place = position[:, None] + self._ahead[: drafts.shape[1] + 1]
        logits = self._forward.verify(torch.cat((last[:, None], drafts), 1), place, longest + drafts.shape[1])
        return self._emit(0, logits, place.add_(1).view(-1), events, drafts)

    def _emit(
        self, first: int, logits: Tensor, place: Tensor, events: list[Event] | None, drafts: Tensor | None = None
    ) -> list[Completion]:
        """Chooses the next tokens of the sequences from `first` on; what has ended goes."""
        batch = self._batch
        running, needs = batch.sequences[first:], batch.needs(first)
        count = len(running)
        try:
            chosen = choose(self._sampler, running, first, logits, place, needs, events, drafts)
        except CheckpointError:
            self._schedule.broke()
            raise
        self._tokens += chosen.taken
        if drafts is None:
            batch.last[first : first + count] = chosen.tokens
        else:
            row_B = torch.tensor(chosen.last, device=place.device)
            torch.index_select(chosen.tokens, 0, row_B, out=batch.last[:count])
            torch.index_select(place, 0, row_B, out=batch.position[:count])
            self._forward.accept(row_B)
            self._drafted += len(chosen.tokens) - count
            self._accepted += chosen.taken - count
        done = [running[number].completion(finish) for number, finish in chosen.ended]
        for number, _ in chosen.ended:
            self._schedule.let_go(running[number])
            del self._sequences[running[number].request.id]
        return done
