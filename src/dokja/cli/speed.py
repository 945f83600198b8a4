"""`dokja speed`: how fast an endpoint answers, and what it costs."""

from pathlib import Path
from typing import Annotated

import typer


def speed(
    endpoint: Annotated[
        str, typer.Argument(metavar="ENDPOINT", help="http://host:port/v1#model, or its name in --endpoints.")
    ],
    endpoints: Annotated[Path | None, typer.Option(help="TOML, a table per endpoint; see docs/judge.md.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Variable that holds the endpoint's key.")] = None,
    workloads: Annotated[
        str, typer.Option(help="short, default, long, very long: tokens read and written; separated by commas.")
    ] = "default",
    requests: Annotated[int, typer.Option(min=1, help="Answers per workload; medians are shown.")] = 8,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 1,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write every figure as JSON.")] = None,
) -> None:
    """Measure time to the first token and output speed of an endpoint, with prompts that never repeat."""
    from dokja.judge.endpoint.description import read_endpoint
    from dokja.judge.measuring import measure_endpoint, print_report, report, write_report

    row = read_endpoint(endpoint, endpoints, key_env=key_env)
    names = [name.strip() for name in workloads.split(",") if name.strip()]
    told = report(row, measure_endpoint(row, names, requests, concurrency))
    print_report(told)
    if as_json:
        print(write_report(as_json, told))
