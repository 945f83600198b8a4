"""`dokja judge MODEL --suite tau2`: the table of agents' conversations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dokja.cli.model_path import Weights, find_model
from dokja.tasks.agentic.golden import NAME


def judge_agents(
    model: str,
    suites: tuple[str, ...],
    runs: Path,
    user: str | None,
    endpoints: Path | None,
    row: Mapping[str, Any],
    how: Mapping[str, Any],
    stops: Mapping[str, Any],
    weights: Weights,
    given: Mapping[str, Any],
) -> None:
    """Hold the conversations, print reward and pass^k by domain. `row` are keys of the endpoint that is judged, `how`
    those of `judge.settings.Wishes`, `stops` those of `Limits`; the rest as in `judge.agentic.verb`."""
    from dokja.judge.agentic.table import print_agents
    from dokja.judge.agentic.verb import judge_agents as hold
    from dokja.judge.endpoint.description import is_endpoint, read_endpoint, read_table
    from dokja.judge.endpoint.spending import Limits
    from dokja.judge.settings import Wishes

    judged: Any = model
    if is_endpoint(model) or (endpoints is not None and model in read_table(endpoints)):
        judged = read_endpoint(model, endpoints, **row)
    elif model != NAME:
        judged = find_model(model, runs, files=True)
    found = hold(
        judged,
        suites,
        user=read_endpoint(user, endpoints) if user else None,
        wishes=Wishes(**how),
        weights=None if weights == "fp32" else weights,
        limits=Limits(**stops),
        **given,
    )
    print_agents(found.summary)
    print(f"records: {found.folder}")
