"""Structured output: which tokens a grammar lets an answer go on with. The parser is llguidance (extra `structured`).

    Grammar ──(Grammars: compiled once, kept)──► Matcher, one per answer ──(allowed)──► a bit per token ──► sampler
                                                    ▲                                                         │
                                                    └────────────────────(accept)─────────────────────────────┘

A grammar speaks of bytes, and what it allows after some tokens follows from their bytes alone; so the model cuts words
as it likes, and drafts change nothing. It binds the answer, never the thought before it (`engine.running` tells them
apart). Markers have no bytes, so no grammar can write one, but that those of a tool call can be named by number
(`Grammar.json_or`); the stop tokens are allowed where the grammar may end, and
nothing else where it must.

Covered: schemas and grammars of strangers. What would take too long or too much memory is refused before the first
token (the limits of llguidance, and `_doubtful`). Not covered: keys that `properties` does not name may come twice.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property, partial
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from dokja.engine.rules import Grammar, spaced
from dokja.errors import ConfigError, DataError
from dokja.text.chat import CALL, CALL_END
from dokja.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

    from dokja.engine.api import Request

T = TypeVar("T")
_NAMES = {
    "json_schema": "JSON schema",
    "json_or": "JSON schema (of the answer or of a tool)",
    "regex": "regular expression",
    "choice": "choice",
    "lark": "Lark grammar",
}
_MOST_ITEMS = 20_000  # ten times llguidance's own limit: objects of thousands of optional keys
_MOST_STATES = 50_000  # a fifth of it: about 100 MB
_KEPT = 64  # compiled grammars
_LONG = 16_000  # characters; a grammar of more may take seconds to compile
_CHECK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
import llguidance
llguidance.LLMatcher(llguidance.LLTokenizer("byte"), sys.stdin.read(), log_level=0).compute_bitmask()
"""


class Grammars:
    """Compiles grammars for one tokenizer and keeps the newest of them. Nothing is loaded before the first one."""

    def __init__(self, tokenizer: Tokenizer | None, vocab: int):
        """`vocab`: tokens that the model scores; those that the tokenizer does not know are never allowed."""
        self._tokenizer, self._vocab, self._words = tokenizer, vocab, -(-vocab // 32)
        self._kept: OrderedDict[Grammar, LLMatcher] = OrderedDict()
        self._lock = Lock()  # of what is kept: one thread may compile while another writes

    def of(self, request: Request) -> Matcher | None:
        """The matcher of a request; None where it has no grammar. Raises as `matcher` does."""
        if request.grammar is None:
            return None
        return self.matcher(request.grammar, request.stop)

    def matcher(self, grammar: Grammar, stop: Collection[int]) -> Matcher:
        """A matcher for one answer; `stop`: the ids that end it.

        Raises DataError for a grammar that is wrong, cannot be enforced or is too large, ConfigError where there is no
        tokenizer, no `stop`, or no llguidance.
        """
        ends = [i for i in stop if 0 <= i < self._vocab]
        if not ends:
            raise ConfigError("A grammar needs a stop token to end the answer with. Give the request its stop ids.")
        return Matcher(self._compiled(grammar), partial(self._renewed, grammar), self._words, ends)

    @cached_property
    def _library(self) -> ModuleType:
        try:
            import llguidance
        except ImportError:
            raise ConfigError(
                "Structured output needs llguidance. Install it: python -m pip install 'dokja[structured]'."
            ) from None
        return llguidance

    @cached_property
    def _tokens(self) -> LLTokenizer:
        """Our vocabulary as llguidance knows it; a fifth of a second for 100,000 tokens."""
        library = self._library
        if self._tokenizer is None:
            raise ConfigError(
                "This engine has no tokenizer, and grammars speak of text. Make it with Engine(tokenizer=...)."
            )
        known = min(self._vocab, self._tokenizer.vocab_size)
        tokens = [self._tokenizer.token_bytes(i) for i in range(known)] + [b""] * (self._words * 32 - known)
        calls = {i: name.encode() for name, i in self._tokenizer.specials.items() if name in (CALL, CALL_END)}
        return library.LLTokenizer(library.TokenizerWrapper(_Vocabulary(tokens, calls)))

    def _compiled(self, grammar: Grammar) -> LLMatcher:
        """The parser before its first token."""
        with self._lock:
            if grammar in self._kept:
                self._kept.move_to_end(grammar)
                return self._kept[grammar]
        tokens, source = self._tokens, self._source(grammar)
        if _doubtful(grammar):
            _check_apart(grammar, source)
        parser = self._parser(tokens, source)
        if parser.is_error():
            raise DataError(_sentence(grammar, parser.get_error()))
        parser.compute_bitmask()  # in vain where nothing can ever match
        if parser.is_error():
            raise DataError(f"Nothing can match this {_NAMES[grammar.kind]}. Look for rules that never end.")
        with self._lock:
            self._kept[grammar] = parser
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return parser

    def _renewed(self, grammar: Grammar) -> LLMatcher:
        """A parser that shares nothing, for an answer whose lexer met its limits; the kept one is spoilt as well."""
        with self._lock:
            self._kept.pop(grammar, None)
        return self._parser(self._tokens, self._source(grammar))

    def _parser(self, tokens: LLTokenizer, source: str) -> LLMatcher:
        limits = self._library.LLParserLimits(
            max_items_in_row=_MOST_ITEMS, max_lexer_states=_MOST_STATES, verbose_errors=False
        )
        return self._library.LLMatcher(tokens, source, log_level=0, limits=limits)

    def _source(self, grammar: Grammar) -> str:
        """The grammar as llguidance reads it, behind its lead. `no_forcing` leaves it to the model how text is cut."""
        text = grammar.text
        body: dict[str, Any]
        if grammar.kind == "json_schema":
            body = {"json_schema": json.loads(spaced(text))}
        elif grammar.kind == "regex":
            body = {"lark_grammar": f"start: /{self._library.regex_to_lark(text, 'd')}/"}
        elif grammar.kind == "choice":
            options = (json.dumps(option, ensure_ascii=False) for option in json.loads(text))
            body = {"lark_grammar": "start: CHOICE\nCHOICE: " + " | ".join(options)}
        else:
            body = {"lark_grammar": text}
        lead = json.dumps(grammar.lead) + " " if grammar.lead else ""
        top = '%llguidance {"no_forcing": true}\nstart: ' + lead + "@body"
        return json.dumps({"grammars": [{"lark_grammar": top}, {"name": "body", **body}]}, ensure_ascii=False)


class Matcher:
    """Where one answer stands in its grammar. It sees tokens of the answer alone, never of a thought.

    Copies of a parser share a lexer, which learns from all answers and has limits of its own. Where they are met, an
    answer goes on with a parser for itself; only where that fails as well is the grammar too complex. (At which token
    it then gives up is the one thing that depends on other answers and on drafts.)
    """

    def __init__(self, parser: LLMatcher, renewed: Callable[[], LLMatcher], words: int, stop: Collection[int]):
        """`parser`: before its first token, as `renewed` gives one. `words`: of a mask. `stop`: ids that are no text,
        whatever letters they have."""
        self._parser, self._renewed = parser.deep_copy(), renewed
        self._words, self._stop, self._ends = words, frozenset(stop), _bits(stop, words)
        self._taken: list[int] = []  # tokens of the answer
        self._ahead: list[int] = []  # drafts that the parser has read beyond them
        self.stuck = False
        """Whether the answer had to end before it was whole: its grammar became too complex on the way."""

    def allowed(self, drafts: Sequence[int] = ()) -> Tensor:
        """What may follow what was accepted and then `drafts`: int32 [ceil(V / 32)], bit t % 32 of word t // 32 for
        token t. The stop tokens alone where nothing may, and behind drafts that cannot come themselves."""
        mask = self._tried(partial(self._mask, drafts))
        return self._ends if mask is None else mask

    def accept(self, token: int) -> None:
        """The answer has grown by this token."""
        if token in self._stop:
            self.stuck = not (self._tried(partial(self._read, ())) and self._parser.is_accepting())
            return
        if self._ahead[:1] == [token]:
            del self._ahead[0]
        else:
            self._tried(partial(self._read, (token,)))
            self._ahead = []
        self._taken.append(token)

    def _mask(self, drafts: Sequence[int]) -> Tensor | None:
        """`allowed`; None where nothing is."""
        if not self._read(drafts):
            return None
        mask = torch.empty(self._words + 1, dtype=torch.int32)
        self._parser.unsafe_compute_mask_ptr(mask.data_ptr(), mask.numel() * 4)
        may_end, mask = bool(mask[-1]), mask[:-1] & ~self._ends
        if may_end:
            mask |= self._ends
        return mask if mask.any() else None

    def _read(self, drafts: Sequence[int]) -> bool:
        """Moves the parser behind these drafts -> whether all of them can come."""
        same = 0
        while same < min(len(drafts), len(self._ahead)) and drafts[same] == self._ahead[same]:
            same += 1
        if len(self._ahead) > same:
            self._parser.rollback(len(self._ahead) - same)
            del self._ahead[same:]
        for token in drafts[same:]:
            if not self._parser.try_consume_tokens([token]):
                return False
            self._ahead.append(token)
        return True

    def _tried(self, work: Callable[[], T]) -> T | None:
        """What `work` gives with the parser, or with a new one; None where it fails with both."""
        for _ in range(2):
            done = work()
            if not self._parser.is_error():
                return done
            self._parser, self._ahead = self._renewed(), []
            for token in self._taken:
                self._parser.compute_bitmask()  # the work that a lexer may do is counted from mask to mask
                self._parser.try_consume_tokens([token])
        return None


class _Vocabulary:
    """Our tokens as llguidance wants to see them: markers without bytes, and an end token of its own behind all."""

    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes], markers: Mapping[int, bytes]):
        """`markers`: those that a grammar may name, by number alone; no text is ever one of them."""
        self.tokens = [markers.get(i, token) for i, token in enumerate(tokens)] + [b""]
        self.special_token_ids = list(markers)
        self.eos_token_id = len(tokens)
        self._single = {token: i for i, token in enumerate(tokens) if len(token) == 1}

    def __call__(self, text: bytes) -> list[int]:
        return [self._single[text[i : i + 1]] for i in range(len(text))]


def _bits(ids: Collection[int], words: int) -> Tensor:
    """The mask of these ids."""
    mask = torch.zeros(words * 32, dtype=torch.int64)
    mask[list(ids)] = 1
    packed = (mask.view(words, 32) << torch.arange(32)).sum(1)
    return torch.where(packed >= 1 << 31, packed - (1 << 32), packed).to(torch.int32)


def _doubtful(grammar: Grammar) -> bool:
    """Whether compiling may take long or much memory: a long text, intersections of many patterns, large divisors."""
    text = grammar.text
    if len(text) > _LONG:
        return True
    if grammar.kind == "json_or":
        schemas = re.findall(r"^\w+: %json (.*)$", text, re.MULTILINE)
        return any(_doubtful(Grammar("json_schema", schema)) for schema in schemas)
    if grammar.kind == "json_schema":
        return text.count('"pattern') + text.count('"format"') > 8 or bool(
            re.search(r'"multipleOf": -?[\d.e+-]{5}', text)
        )
    return grammar.kind == "lark" and bool(re.search(r"[&~%]", text))


def _check_apart(grammar: Grammar, source: str) -> None:
    """Compiles in a process of its own, within 2 seconds and 1 GB. Raises DataError where that is not enough."""
    try:
        command, quiet = [sys.executable, "-c", _CHECK], os.environ | {"RUST_BACKTRACE": "0"}
        source = re.sub(r"<\[\d+\]>", "/x/", source)  # that process has no tokens but bytes
        done = subprocess.run(command, input=source.encode(), capture_output=True, timeout=20, env=quiet, check=False)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode:
        raise DataError(_too_complex(grammar))


def _too_complex(grammar: Grammar) -> str:
    return f"This {_NAMES[grammar.kind]} is too complex to be enforced. Make it smaller or split the request."


def _sentence(grammar: Grammar, error: str) -> str:
    """What llguidance says about a grammar, as a sentence."""
    name = _NAMES[grammar.kind]
    if found := re.search(r"Unimplemented keys: \[(.*?)\]", error):
        return f"This {name} uses {found[1]}, which cannot be enforced. Leave it out and check the answer yourself."
    if "oneOf constraints" in error:
        return f'This {name} uses "oneOf" with alternatives that may overlap. Use "anyOf", or a constant key in each.'
    if re.search(r"too (large|many|complex)|fuel|limit exceeded|[Uu]nable to determine|panic", error):
        return _too_complex(grammar)
    reason = re.search(r"^error: (.*)$", error, re.MULTILINE) or re.search(
        r"^(?:at \d+\(\d+\): )?(.*)$", error, re.MULTILINE
    )
    return f"This {name} cannot be used: {reason[1][:300].rstrip('.') if reason else error[:300]}. Correct it."
