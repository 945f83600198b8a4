"""transformers' `generate` behind the part of our engine that judge and RL use, so that both can drive one stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from dokja.engine.api import Completion, Request


class PeerEngine:
    """Answers sets of requests in batches of `batch`, each padded on the left to its longest prompt.

    Requests are sorted by (thinking or not, length of the prompt), which keeps padding and waiting for the last answer
    of a batch small. What our engine does and this does not: log-probabilities (all 0 here), seeds of a request's own,
    closing a thought by force. All requests of a set share temperature, top_p and stop tokens.
    """

    def __init__(self, folder: Path, dtype: str, batch: int):
        self.name, self.batch = f"transformers, {dtype}, batches of {batch}", batch
        found = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa")
        self.model = found.eval()
        self.tokens = 0

    def complete(
        self, requests: Iterable[Request], on_done: Callable[[Completion], object] | None = None
    ) -> list[Completion]:
        """All answers, in the order of the requests."""
        asked = list(requests)
        order = sorted(asked, key=lambda r: (r.think_budget is None, len(r.prompt)))
        done: dict[str, Completion] = {}
        for at in range(0, len(order), self.batch):
            for completion in self._answer(order[at : at + self.batch]):
                done[completion.id] = completion
                self.tokens += len(completion.tokens)
                if on_done is not None:
                    on_done(completion)
        return [done[r.id] for r in asked]

    @torch.inference_mode()
    def _answer(self, part: list[Request]) -> list[Completion]:
        first, longest = part[0], max(len(r.prompt) for r in part)
        ids = torch.zeros(len(part), longest, dtype=torch.int64)
        seen = torch.zeros_like(ids)
        for row, request in enumerate(part):
            ids[row, longest - len(request.prompt) :] = torch.tensor(request.prompt)
            seen[row, longest - len(request.prompt) :] = 1
        drawn: dict[str, Any] = {"do_sample": False}
        if first.temperature > 0:
            drawn = {"do_sample": True, "temperature": first.temperature, "top_p": first.top_p, "top_k": first.top_k}
        config = GenerationConfig(
            max_new_tokens=max(r.max_tokens for r in part),
            eos_token_id=list(first.stop) or None,
            pad_token_id=0,
            **drawn,
        )
        out = self.model.generate(ids, attention_mask=seen, generation_config=config)[:, longest:].tolist()
        return [self._completion(request, tokens) for request, tokens in zip(part, out, strict=True)]

    def _completion(self, request: Request, tokens: list[int]) -> Completion:
        ends = [tokens.index(stop) for stop in request.stop if stop in tokens]
        length = min([request.max_tokens, len(tokens), *(end + 1 for end in ends)])
        finish = "stop" if ends and min(ends) < length else "length"
        zeros = [0.0] * length
        return Completion(request.id, tokens[:length], zeros, finish, False, len(request.prompt))
