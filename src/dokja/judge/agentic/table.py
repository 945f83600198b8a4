"""The table of agents' conversations: reward with its interval and pass^k by domain, and over all scenarios."""

from __future__ import annotations

from statistics import fmean

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dokja.judge.table import Row, Summary


def macro_mean(summary: Summary) -> float:
    """The plain mean over domains; the mean over all scenarios weighs a domain by its scenarios instead."""
    return fmean(row.score.value for row in summary.rows["task"])


def print_agents(summary: Summary, console: Console | None = None) -> None:
    """Print a row for each domain, then the mean over all scenarios (domains weigh as many scenarios as they have)."""
    console = console or Console()
    rows = summary.rows["task"]
    ks = sorted({k for row in rows for k in row.pass_hat})
    title = f"{summary.model}: reward in %, 95 % intervals; customers played by {summary.settings.get('user')}"
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE)
    for name in ("domain", "n", "reward", *(f"pass^{k}" for k in ks)):
        table.add_column(name, justify="left" if name == "domain" else "right", no_wrap=True)

    def add(name: str, row: Row, style: str = "") -> None:
        score = row.score
        reward = f"{100 * score.value:.1f} [{100 * score.low:.0f}, {100 * score.high:.0f}]"
        hats = [f"{100 * row.pass_hat[k]:.1f}" if k in row.pass_hat else "–" for k in ks]
        table.add_row(escape(name), str(row.problems), reward, *hats, style=style)

    for row in rows:
        add(row.task or "", row)
    table.add_section()
    overall = summary.rows["overall"][0]
    add("all scenarios", overall, "bold")
    console.print(table)
    if len(rows) > 1:
        console.print(f"Plain mean over domains: {100 * macro_mean(summary):.1f} %.", markup=False, highlight=False)
    faults = {
        "cut short": overall.truncated,
        "ended by a message that could not be read": overall.unparseable,
        "ended by the simulated user's fault": overall.grader_failed,
    }
    if said := ", ".join(f"{n} {name}" for name, n in faults.items() if n):
        console.print(f"Of {overall.answers} conversations: {said}.", markup=False, highlight=False)
