"""`dokja judge`: examine a model on held-out problems."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dokja.cli.model_path import Weights, find_model
from dokja.errors import ConfigError


def judge(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A release folder, a GGUF file, a run folder or a run's name; http://host:port/v1#model for an "
            "endpoint, or its name in --endpoints.",
        ),
    ],
    tasks: Annotated[str, typer.Option(help="Families, separated by commas.")] = "all",
    suite: Annotated[
        str | None, typer.Option(help="Benchmarks in place of families, separated by commas: core-ko-en is ours.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of the benchmark's data, or `hub` to fetch it; shipped ones need none.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Problems of every task of a benchmark; all by default.")
    ] = None,
    languages: Annotated[str, typer.Option(help="Languages to ask in.")] = "ko,en",
    modes: Annotated[
        str | None, typer.Option(help="think: a thought first; direct: at once. All that the model knows by default.")
    ] = None,
    per_cell: Annotated[int, typer.Option(min=1, help="Problems per family, level and language.")] = 10,
    repeats: Annotated[
        int | None,
        typer.Option(min=1, help="Answers per problem and mode; pass@k needs k. As the benchmark has it, else 1."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0.0, help="0 answers greedily; else as the benchmark or the model's makers have it."),
    ] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Nucleus kept when sampling.")] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of an answer, thought included. As the benchmark has it, else 384."),
    ] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="Tokens a thought may take before it is closed.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which problems are drawn, and the sampling.")] = 0,
    weights: Annotated[
        Weights, typer.Option(help="Fewer bits: faster answers of a large model, a little less exact.")
    ] = "fp32",
    draft: Annotated[int, typer.Option(min=0, help="Tokens to guess ahead a step; faster, the same answers.")] = 0,
    endpoints: Annotated[Path | None, typer.Option(help="TOML, a table per endpoint; see docs/judge.md.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Variable that holds the endpoint's key.")] = None,
    thinking: Annotated[
        str | None, typer.Option(help="What turns its thoughts on and off: enable_thinking, reasoning_effort or none.")
    ] = None,
    reasoning: Annotated[
        str | None,
        typer.Option(help="Where its thoughts come: reasoning_content, reasoning, inline, none or auto."),
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Requests to the endpoint at once.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Stream its answers, to measure its speed.")] = False,
    max_cost: Annotated[
        float | None, typer.Option(min=0.0, help="Stop when answers have cost this, earlier sittings included.")
    ] = None,
    max_total_tokens: Annotated[
        int | None, typer.Option(min=1, help="Stop at so many tokens read and written, earlier sittings included.")
    ] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0.0, help="Ask nothing new after so long.")] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="Endpoint that judges the answers no rule can, as http://host:port/v1#model.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the records; inside the model's by default, an endpoint's in judged/."),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="For agents: who plays the customers, as http://host:port/v1#model.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the run folders.")] = Path("runs"),
) -> None:
    """Ask held-out problems, keep every answer as a record, print pass@1 with 95 % intervals. Resumes when killed."""
    asked: Any = None if modes is None else _split(modes)
    if asked is not None and (not asked or any(mode not in ("think", "direct") for mode in asked)):
        raise ConfigError(f"--modes {modes}: name think, direct or both, separated by a comma.")
    if suite is None and (data is not None or limit is not None):
        raise ConfigError("--data and --limit are about a benchmark. Name it with --suite.")
    from dokja.judge.endpoint.description import is_endpoint, read_endpoint, read_table

    questions: dict[str, Any] = {
        "tasks": _split(tasks),
        "languages": _split(languages),
        "per_cell": per_cell,
        "packs": () if suite is None else _split(suite),
        "data": data,
        "limit": limit,
        "seed": seed,
        "out": out,
        "judge": read_endpoint(judge_model, endpoints) if judge_model else None,
    }
    how: dict[str, Any] = {
        "modes": asked,
        "repeats": repeats,
        "temperature": temperature,
        "top_p": top_p,
        "max_tokens": max_tokens,
        "budget": budget,
    }
    row = {"key_env": key_env, "thinking": thinking, "reasoning": reasoning, "concurrency": concurrency}
    stops = {"cost": max_cost, "tokens": max_total_tokens, "seconds": max_seconds}
    if suite is not None and _for_agents(suite):
        from dokja.cli.judge_agents import judge_agents

        given = {"data": data, "limit": limit, "seed": seed, "out": out}
        return judge_agents(model, _split(suite), runs, user, endpoints, row, how, stops, weights, given)
    if user is not None:
        raise ConfigError("--user plays the customers of a benchmark for agents. Name one, such as --suite tau2.")
    if is_endpoint(model) or (endpoints is not None and model in read_table(endpoints)):
        if weights != "fp32" or draft:
            raise ConfigError("--weights and --draft are about a model that dokja itself runs. Leave them out.")
        judged: Any = _endpoint(read_endpoint(model, endpoints, **row), stops, stream, how, questions)
    else:
        only: dict[str, Any] = {**{f"--{k.replace('_', '-')}": v for k, v in row.items()}, "--stream": stream or None}
        only |= {"--max-cost": max_cost, "--max-total-tokens": max_total_tokens, "--max-seconds": max_seconds}
        if foreign := [name for name, value in only.items() if value is not None]:
            raise ConfigError(f"{foreign[0]} is about an endpoint. Give http://host:port/v1#model, or leave it out.")
        folder = find_model(model, runs, files=True)
        # After the arguments are known to be right: this loads torch, which takes seconds.
        from dokja.judge.run import judge_model as judge_weights

        kept = None if weights == "fp32" else weights
        judged = judge_weights(folder, weights=kept, draft=draft, **how, **questions)
    from dokja.judge.spent import print_spent
    from dokja.judge.table import print_table

    print_table(judged.summary)
    print_spent(judged.summary)
    print(f"records: {judged.folder}")


def _endpoint(row: Any, stops: dict[str, Any], stream: bool, how: dict[str, Any], questions: dict[str, Any]) -> Any:
    from dokja.judge.endpoint.spending import Limits
    from dokja.judge.run_endpoint import judge_endpoint
    from dokja.judge.settings import Wishes

    return judge_endpoint(row, wishes=Wishes(**how), limits=Limits(**stops), stream=stream, **questions)


def _for_agents(suite: str) -> bool:
    from dokja.judge.agentic.verb import is_agentic

    kinds = {is_agentic(name) for name in _split(suite)}
    if len(kinds) > 1:
        raise ConfigError(f"--suite {suite} mixes benchmarks for agents with others. Judge them one after the other.")
    return kinds == {True}


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
