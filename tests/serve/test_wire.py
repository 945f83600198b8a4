"""Requests, events and endings come back from the wire as they were, however its bytes are cut."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokja.engine.api import Event, Request
from dokja.engine.rules import Grammar
from dokja.serve.wire import (
    Ending,
    Unpacker,
    ending_from_wire,
    ending_to_wire,
    event_from_wire,
    event_to_wire,
    pack,
    request_from_wire,
    request_to_wire,
)
from dokja.text.images import Patches

REQUESTS = [
    Request("a", [1], 5),
    Request(
        "b", [3, 4], 7, temperature=0.5, top_p=0.9, top_k=3, seed=2**63, stop=(1, 2), think_budget=0, think_close=(9,),
        min_p=0.1, presence_penalty=1.0, logit_bias=((3, -math.inf), (4, 1.5)), stop_text=("\n\n", "끝"),
        top_logprobs=4, prompt_logprobs=0, thinking=True, grammar=Grammar.json_schema({"type": "object"}).after("\n"),
    ),
    Request("c", [5, 5], 1, images=(Patches(np.arange(24, dtype=np.float32).reshape(4, 6), (1, 2, 2)),)),
]  # fmt: skip


def sent(message: dict, cuts: list[int]) -> list[dict]:
    """What arrives of a message that is sent twice, cut at these places."""
    data, unpacker, out = pack(message) * 2, Unpacker(), []
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        out += unpacker.feed(data[start:end])
    return out


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: r.id)
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 10**6), max_size=5))
def test_a_request_comes_back_as_it_was(request_: Request, cuts: list[int]) -> None:
    for message in sent({"submit": request_to_wire(request_)}, cuts):
        assert request_from_wire(message["submit"]) == request_


def test_events_and_endings_come_back_as_they_were() -> None:
    event = Event("a", 7, -0.25, "stop", ((7, -0.25), (3, -2.0)))
    told = event._replace(prompt=((-1.5, ()), (-0.5, ((4, -0.5), (9, -1.0)))))
    ending = Ending("error", 3, "끝", 4, "sentence", "lost")
    (message, _) = sent({"event": event_to_wire(event), "ending": ending_to_wire("a", ending)}, [3, 9])
    assert event_from_wire(message["event"]) == event
    assert event_from_wire(sent({"event": event_to_wire(told)}, [5])[1]["event"]) == told
    assert ending_from_wire(message["ending"]) == ("a", ending)


def test_what_is_default_is_not_sent() -> None:
    assert request_to_wire(REQUESTS[0]) == {"id": "a", "prompt": [1], "max_tokens": 5}
