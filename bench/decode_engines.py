"""The engines of decode_speed.py, one a process; llama.cpp's part needs an environment with llama-cpp-python alone.

    python bench/decode_engines.py SETTINGS_JSON

Settings: engine ("dokja", "transformers", "llama.cpp" or "quantise"), path, threads, and what the engine needs. Reports
on standard output, one JSON object a line: when it is ready, and then an answer to each request that it reads.

| request                                    | answer                                                       |
|--------------------------------------------|--------------------------------------------------------------|
| {"do": "next", "prompts"}                  | {"tokens"}: the best token after each                        |
| {"do": "prefill", "prompts"} (one)         | {"tokens", "seconds"}: from asking to the first token        |
| {"do": "decode", "prompts", "steps", "most"} | {"tokens", "seconds"}: after the prompts and one step more |

A decode ends after `most` seconds even where steps are left. All choose the best token, and none ends an answer.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers import serve

Prompts = list[list[int]]
Timed = tuple[int, float]
"""Tokens and seconds."""


class Ours:
    """dokja's engine with its weights in `bits`."""

    def __init__(self, told: dict[str, Any]):
        import torch

        torch.set_num_threads(told["threads"])
        from dokja.engine.engine import Engine
        from dokja.engine.load import load_few_bits

        model, _ = load_few_bits(Path(told["path"]), told["bits"])
        for thread in threading.enumerate():  # one moves weights from the mapped file to large pages
            if thread is not threading.current_thread():
                thread.join()
        self.engine = Engine(model, slots=told["slots"], dtype=torch.bfloat16, prefix_tokens=0)
        self.facts: dict[str, Any] = {}

    def next(self, prompts: Prompts) -> list[int]:
        """The best token after each prompt."""
        return [answer.tokens[0] for answer in self.engine.complete(self._requests(prompts, 1))]

    def _requests(self, prompts: Prompts, most: int) -> list[Any]:
        from dokja.engine.api import Request

        return [Request(str(i), p, most, temperature=0.0) for i, p in enumerate(prompts)]

    def prefill(self, prompt: list[int]) -> Timed:
        """One request for one token."""
        requests = self._requests([prompt], 1)
        began = time.perf_counter()
        self.engine.complete(requests)
        return len(prompt), time.perf_counter() - began

    def decode(self, prompts: Prompts, steps: int, most: float) -> Timed:
        """Steps of all sequences together."""
        waiting = {self.engine.submit(r) for r in self._requests(prompts, steps + 64)}
        while waiting:
            waiting -= {event.id for event in self.engine.step()}
        self.engine.step()
        tokens, began = 0, time.perf_counter()
        for _ in range(steps):
            tokens += len(self.engine.step())
            if time.perf_counter() - began > most:
                break
        took = time.perf_counter() - began
        for i in range(len(prompts)):
            self.engine.abort(str(i))
        return tokens, took


class Transformers:
    """`generate` in bf16 with sdpa and its usual cache."""

    def __init__(self, told: dict[str, Any]):
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(told["threads"])
        self.torch = torch
        found = AutoModelForCausalLM.from_pretrained(told["path"], dtype=torch.bfloat16, attn_implementation="sdpa")
        self.model = found.eval()
        self.model.generation_config.eos_token_id = None  # fills what a call's own config leaves out
        for p in self.model.parameters():  # out of the mapped file, into memory that may have large pages
            p.data = p.data.clone()
        self.facts: dict[str, Any] = {}

    def _generate(self, prompts: Prompts, new: int, most: float = 1e9) -> tuple[Any, list[float]]:
        """Ids, and when each step ended."""
        torch, stamps = self.torch, []

        def stamp(ids: Any, scores: Any, **_: Any) -> Any:
            stamps.append(time.perf_counter())
            return torch.full((len(ids),), stamps[-1] - stamps[0] > most)

        from transformers import GenerationConfig, StoppingCriteriaList

        config = GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0)
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            out = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), generation_config=config,
                stopping_criteria=StoppingCriteriaList([stamp]),
            )  # fmt: skip
        return out, stamps

    def next(self, prompts: Prompts) -> list[int]:
        """The best token after each prompt."""
        return [int(self._generate([p], 1)[0][0, -1]) for p in prompts]

    def prefill(self, prompt: list[int]) -> Timed:
        """One new token."""
        began = time.perf_counter()
        self._generate([prompt], 1)
        return len(prompt), time.perf_counter() - began

    def decode(self, prompts: Prompts, steps: int, most: float) -> Timed:
        """From the second token's end to the last's."""
        _, stamps = self._generate(prompts, steps + 2, most)
        return len(prompts) * (len(stamps) - 2), stamps[-1] - stamps[1]


class LlamaCpp:
    """The library itself, through its low-level interface: one `llama_batch` a step, its own defaults otherwise."""

    def __init__(self, told: dict[str, Any]):
        self.lib, self.log = llama(told["threads"])
        import numpy

        self.numpy, self.threads, lib = numpy, told["threads"], self.lib
        params = lib.llama_model_default_params()
        if hasattr(params, "load_mode"):  # into its own memory: a mapped file has small pages
            params.load_mode = lib.LLAMA_LOAD_MODE_NONE
        else:
            params.use_mmap = False
        self.model = lib.llama_model_load_from_file(told["path"].encode(), params)
        if not self.model:
            raise SystemExit(f"llama.cpp could not load {told['path']}")
        self.vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.largest = 2048
        self.batch = lib.llama_batch_init(self.largest, 0, 1)
        system = lib.llama_print_system_info().decode()
        self.facts = {"weights": lib.llama_model_size(self.model), "system": system}

    def _context(self, sequences: int, length: int) -> Any:
        lib, params = self.lib, self.lib.llama_context_default_params()
        params.n_ctx = sequences * -(-length // 256) * 256
        params.n_seq_max, params.n_batch = sequences, self.largest
        params.n_threads = params.n_threads_batch = self.threads
        return lib.llama_init_from_model(self.model, params)

    def _run(self, context: Any, rows: list[tuple[int, int, int, bool]]) -> Any:
        """Rows of (token, position, sequence, scored) -> the best token of each scored row of the last batch."""
        for at in range(0, len(rows), self.largest):
            part, batch = rows[at : at + self.largest], self.batch
            batch.n_tokens = len(part)
            for i, (token, position, sequence, scored) in enumerate(part):
                batch.token[i], batch.pos[i], batch.logits[i] = token, position, scored
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            if self.lib.llama_decode(context, batch):
                raise SystemExit("llama_decode failed")
        scores = self.lib.llama_get_logits(context)
        count = sum(row[3] for row in part)
        return self.numpy.ctypeslib.as_array(scores, (count, self.vocab)).argmax(1)

    def _read(self, context: Any, prompts: Prompts) -> Any:
        rows = [(t, p, s, p == len(q) - 1) for s, q in enumerate(prompts) for p, t in enumerate(q)]
        if len(rows) <= self.largest:
            return self._run(context, rows)
        return self.numpy.concatenate([self._run(context, [r for r in rows if r[2] == s]) for s in range(len(prompts))])

    def next(self, prompts: Prompts) -> list[int]:
        """The best token after each prompt."""
        context = self._context(len(prompts), max(map(len, prompts)) + 1)
        found = self._read(context, prompts).tolist()
        self.lib.llama_free(context)
        return list(found)

    def prefill(self, prompt: list[int]) -> Timed:
        """The prompt in batches of 2048 at most, and the best token after it."""
        context = self._context(1, len(prompt) + 1)
        self._run(context, [(prompt[0], 0, 0, True)])  # its memory is touched before the clock runs
        self.lib.llama_memory_clear(self.lib.llama_get_memory(context), False)
        began = time.perf_counter()
        self._read(context, [prompt])
        took = time.perf_counter() - began
        self.lib.llama_free(context)
        return len(prompt), took

    def decode(self, prompts: Prompts, steps: int, most: float) -> Timed:
        """Batches of one token of each sequence."""
        length = len(prompts[0])
        context = self._context(len(prompts), length + steps + 2)
        best = self._read(context, prompts)
        tokens, began = 0, 0.0
        for step in range(steps + 1):
            if step == 1:
                began = time.perf_counter()
            best = self._run(context, [(int(t), length + step, s, True) for s, t in enumerate(best)])
            tokens += len(prompts) * (step > 0)
            if step and time.perf_counter() - began > most:
                break
        took = time.perf_counter() - began
        self.lib.llama_free(context)
        return tokens, took


def llama(threads: int) -> tuple[Any, Any]:
    """llama-cpp-python's low-level module, silenced, and what keeps it silent."""
    from llama_cpp import llama_cpp as lib

    log = lib.llama_log_callback(lambda level, text, data: None)
    lib.llama_log_set(log, ctypes.c_void_p(0))
    lib.llama_backend_init()
    return lib, log


def quantise(told: dict[str, Any]) -> dict[str, Any]:
    """A BF16 file into files of other types, as llama-quantize writes them by default."""
    lib, _log = llama(told["threads"])
    import llama_cpp

    for name, target in told["targets"].items():
        params = lib.llama_model_quantize_default_params()
        params.nthread, params.ftype = told["threads"], getattr(lib, f"LLAMA_FTYPE_MOSTLY_{name}")
        params.allow_requantize = True
        if lib.llama_model_quantize(told["path"].encode(), target.encode(), params):
            raise SystemExit(f"llama.cpp could not quantise {told['path']} to {name}")
    return {"version": llama_cpp.__version__}


ENGINES: dict[str, Any] = {"dokja": Ours, "transformers": Transformers, "llama.cpp": LlamaCpp}


def begin(told: dict[str, Any]) -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    """Loads the engine; answers as the table above says."""
    if told["engine"] == "quantise":
        return quantise(told), lambda _: {}
    engine = ENGINES[told["engine"]](told)

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        if asked["do"] == "next":
            return {"tokens": engine.next(asked["prompts"])}
        if asked["do"] == "prefill":
            tokens, seconds = engine.prefill(asked["prompts"][0])
        else:
            tokens, seconds = engine.decode(asked["prompts"], asked["steps"], asked["most"])
        return {"tokens": tokens, "seconds": seconds}

    return engine.facts, answer


if __name__ == "__main__":
    serve(begin)
