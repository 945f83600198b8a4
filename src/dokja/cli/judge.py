"""`dokja judge`: examine a model on held-out problems."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dokja.cli.model_path import Weights, find_model
from dokja.errors import ConfigError


def judge(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A release folder, a GGUF file, a run folder or a run's name.")
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
    repeats: Annotated[int, typer.Option(min=1, help="Answers per problem and mode; pass@k needs k.")] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="0 answers greedily; else as the model's makers recommend.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Nucleus kept when sampling.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer, thought included.")] = 384,
    budget: Annotated[int | None, typer.Option(min=1, help="Tokens a thought may take before it is closed.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which problems are drawn, and the sampling.")] = 0,
    weights: Annotated[
        Weights, typer.Option(help="Fewer bits: faster answers of a large model, a little less exact.")
    ] = "fp32",
    draft: Annotated[int, typer.Option(min=0, help="Tokens to guess ahead a step; faster, the same answers.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the records; inside the model's by default.")] = None,
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
    if suite is not None and _for_agents(suite):
        from dokja.cli.judge_agents import judge_agents

        return judge_agents(
            model,
            _split(suite),
            runs,
            user=user,
            data=data,
            limit=limit,
            modes=asked,
            repeats=repeats,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            budget=budget,
            seed=seed,
            weights=None if weights == "fp32" else weights,
            out=out,
        )
    if user is not None:
        raise ConfigError("--user plays the customers of a benchmark for agents. Name one, such as --suite tau2.")
    folder = find_model(model, runs, files=True)
    # After the arguments are known to be right: these load torch, which takes seconds.
    from dokja.judge.run import judge_model
    from dokja.judge.table import print_table

    judged = judge_model(
        folder,
        tasks=_split(tasks),
        languages=_split(languages),
        per_cell=per_cell,
        repeats=repeats,
        modes=asked,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        budget=budget,
        seed=seed,
        weights=None if weights == "fp32" else weights,
        draft=draft,
        packs=() if suite is None else _split(suite),
        data=data,
        limit=limit,
        out=out,
    )
    print_table(judged.summary)
    print(f"records: {judged.folder}")


def _for_agents(suite: str) -> bool:
    from dokja.judge.agentic.verb import is_agentic

    kinds = {is_agentic(name) for name in _split(suite)}
    if len(kinds) > 1:
        raise ConfigError(f"--suite {suite} mixes benchmarks for agents with others. Judge them one after the other.")
    return kinds == {True}


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
