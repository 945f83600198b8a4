"""`dokja judge MODEL --suite tau2`: the table of agents' conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dokja.cli.model_path import find_model
from dokja.tasks.agentic.golden import NAME


def judge_agents(model: str, suites: tuple[str, ...], runs: Path, **options: Any) -> None:
    """Hold the conversations, print reward and pass^k by domain; see `judge.agentic.verb`."""
    from dokja.judge.agentic.table import print_agents
    from dokja.judge.agentic.verb import judge_agents as hold

    named: str | Path = model
    if model != NAME and not model.startswith(("http://", "https://")) and options.get("endpoints") is None:
        named = find_model(model, runs, files=True)
    judged = hold(named, suites, **options)
    print_agents(judged.summary)
    print(f"records: {judged.folder}")
