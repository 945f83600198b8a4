"""`dokja show records`: what the answers of a judged folder add up to, or the same as logs for Inspect's viewer."""

from __future__ import annotations

from pathlib import Path

from dokja.judge.records import read_records


def show_records(folder: Path, inspect: Path | None) -> None:
    """Print the table of a folder's records; with `inspect`, write logs there instead."""
    if inspect is not None:
        from dokja.judge.inspect_log import write_logs

        for path in write_logs(folder, inspect):
            print(path)
        print(f"Look at them with: inspect view --log-dir {inspect}")
        return
    from dokja.errors import DataError
    from dokja.judge.agentic.table import print_agents
    from dokja.judge.suite import needs_steps
    from dokja.judge.table import print_table, summarise

    records = read_records(folder)
    if not records:
        raise DataError(f"{folder} holds no records yet. Run `dokja judge` until it has an answer.")
    spoken = all(record.dialogue is not None for record in records)
    settings = {"user": (records[0].dialogue or {}).get("user")} if spoken else None
    summary = summarise(records, needs_steps(), settings)
    (print_agents if spoken else print_table)(summary)
