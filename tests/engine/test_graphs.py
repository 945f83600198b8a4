"""Recorded steps: what is around the recording, which needs no GPU."""

import pytest
import torch
from engine_small import model, prompt

from dokja.engine.api import Request
from dokja.engine.engine import Engine
from dokja.engine.graphs import Graphs


def engine(record=None) -> Engine:
    """Five rows, of which four may be used; with `record`, steps go through recordings."""
    made = Engine(model(context=1024), slots=5, prefix_tokens=0)
    forward = made._forward
    assert forward._native is None  # its heads are too narrow
    if record is not None:
        forward.graphs = Graphs(forward._next, forward.cache, idle=4, record=record)
    return made


def requests(count: int) -> list[Request]:
    return [
        Request(str(n), prompt(n, 4 + 9 * n), max_tokens=6 + 7 * n, temperature=0.7 * (n % 2), seed=n)
        for n in range(count)
    ]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_recorded_steps_give_the_same_tokens(count):
    made = []

    def record(step, pool):
        made.append(step)
        return step

    want = [c.tokens for c in engine().complete(requests(count))]
    assert [c.tokens for c in engine(record).complete(requests(count))] == want
    assert 0 < len(made) <= 3 * 2 + 1  # by powers of two of sequences and pages, not one for every step


def test_a_recording_finds_its_input_where_the_first_step_left_it():
    """A recording never calls Python again: the tensors that it was made with are all it sees."""
    given = []

    def record(step, pool):
        given.append([cell.cell_contents for cell in step.__closure__ if isinstance(cell.cell_contents, torch.Tensor)])
        return step

    used = engine(record)
    used.complete(requests(3))
    inputs = used._forward.graphs._inputs
    for tensors in given:
        assert len(tensors) == 3
        assert all(t.untyped_storage().data_ptr() == inputs.untyped_storage().data_ptr() for t in tensors)


def test_recordings_are_made_anew_when_the_cache_has_grown():
    where = []

    def record(step, pool):
        where.append(used._forward.cache.layers[-1].kv.data_ptr())
        return step

    used = engine(record)
    used.complete(requests(1))
    used.complete([Request("long", prompt(0, 900), max_tokens=3)])
    assert len(set(where)) == 2


@pytest.mark.gpu
def test_a_gpu_gives_the_same_tokens_with_recordings_and_without():
    made = Engine(model(), slots=4, device="cuda")
    want = made.complete(requests(4))
    made._forward.graphs = None
    assert [c.tokens for c in made.complete(requests(4))] == [c.tokens for c in want]
