"""`dokja show scores` and `dokja show index`: published scores, and the definitions of indexes filled in."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dokja.cli.strings import Language
from dokja.errors import ConfigError
from dokja.judge.claims import Claim, claims
from dokja.judge.criteria import Criterion, Definition
from dokja.judge.gap_table import gaps, print_gaps, split_dates
from dokja.judge.index import Score, load, names, read_inputs, score
from dokja.judge.points import Points
from dokja.judge.published import Row, matching, odd_vote, published
from dokja.judge.published import Table as Published


def show_scores(text: str | None, html: Path | None, language: Language, console: Console | None = None) -> None:
    """Print the published tables in which `text` occurs, all of them without it; write them as a page where asked."""
    console = console or Console()
    tables = matching(text) if text else list(published().tables)
    if not tables:
        known = ", ".join(t.id for t in published().tables)
        raise ConfigError(f"No published table, model or benchmark is called {text!r}. The tables are {known}.")
    if html:
        from dokja.proof.scores_page import write_scores

        print(write_scores(tables, html, language))
        return
    for table in tables:
        _published(table, console, language)
    console.print(
        "● the publisher's own model, measured by itself   ○ printed by the publisher, who ran it is not said"
    )
    if not text:
        for claim in claims():
            if claim.verdict != "holds":
                _claim(claim, console, language)
        console.print("`dokja show scores TEXT` shows what has TEXT in it; `--html FILE` writes a page.", style="dim")


def show_index(name: str | None, of: Path | None, console: Console | None = None) -> None:
    """Print the indexes there are, or one with its weights, or one filled in with the values of a file."""
    console = console or Console()
    if name is None:
        table = Table(title="indexes and stage evaluations", title_justify="left", box=box.SIMPLE_HEAD)
        for column in ("name", "version", "date", "by", "read in"):
            table.add_column(column, overflow="fold")
        for each in names():
            definition = load(each)[0]
            table.add_row(each, definition.version, definition.date, definition.by, definition.source)
        console.print(table)
        return
    definition, digest = load(name)
    if of is None:
        _weights(definition, digest, console)
    else:
        inputs, released = split_dates(read_inputs(of))
        scores = score(name, inputs)
        _filled(definition, scores, console)
        if released:
            print_gaps(*gaps(scores, released), console)


def _published(t: Published, console: Console, language: Language) -> None:
    title = t.ko if language == "ko" else t.en
    table = Table(title=f"{title} · {t.source}", title_justify="left", title_style="bold", box=box.SIMPLE)
    benchmarks = [_benchmark(row) for row in t.rows]
    models = [model.name for model in t.models]
    # The longer list goes down the page.
    down, across = (models, benchmarks) if len(models) > len(benchmarks) else (benchmarks, models)
    table.add_column("model" if down is models else "benchmark", overflow="fold")
    for name in across:
        table.add_column(escape(name), justify="right")
    cells = [[_value(row, i, t) for i in range(len(models))] for row in t.rows]
    for name, line in zip(down, zip(*cells, strict=True) if down is models else cells, strict=True):
        table.add_row(escape(name), *line)
    console.print(table)
    if any(odd_vote(row, value) for row in t.rows for value in row.values):
        console.print("† no whole number of 30 problems: its vote must have shared ties", style="dim")


def _benchmark(row: Row) -> str:
    metric = "" if row.metric == "score" else f", {row.metric}"
    return f"{row.benchmark}{metric}{' (of 10)' if row.scale == 10 else ''}"


def _value(row: Row, at: int, t: Published) -> str:
    value = row.values[at]
    if value is None:
        return "–"
    digits = f"{value:.2f}" if row.scale == 10 else f"{value:.1f}"
    return f"{'●' if t.models[at].own else '○'} {digits}{'†' if odd_vote(row, value) else ''}"


def _claim(claim: Claim, console: Console, language: Language) -> None:
    said = claim.ko if language == "ko" else claim.en
    console.print(f"{claim.verdict}: {said} ({claim.by})", style="yellow", markup=False, highlight=False)
    for fact in claim.facts:
        if not fact.agrees:
            also = f"; {fact.said:g} is its {' and its '.join(fact.same_as)}" if fact.same_as else ""
            console.print(f"  {fact.what}: the table has {fact.published}{also}", markup=False, highlight=False)
    note = claim.note_ko if language == "ko" else claim.note_en
    if note:
        console.print(f"  {note}", markup=False, highlight=False)


def _weights(definition: Definition, digest: str, console: Console) -> None:
    title = f"{definition.name} {definition.version} · {definition.date} · {digest[:12]}"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    for column in ("criterion", "weight", "input", "repeats", "evidence", "note"):
        table.add_column(column, overflow="fold", justify="right" if column in ("weight", "repeats") else "left")

    def add(criteria: Sequence[Criterion], depth: int) -> None:
        for c in criteria:
            leaf = not c.parts
            how = c.transform if c.transform == "elo" else f"{c.transform} of {_number(c.scale)}"
            weight = f"{c.weight} = {_number(c.weight * definition.unit)}" if c.weight < 1 else _number(c.weight)
            name = f"{'  ' * depth}{c.id}"
            table.add_row(name, weight, how if leaf else "", str(c.repeats or ""), c.evidence if leaf else "", c.note,
                          style="" if leaf else "bold")  # fmt: skip
            add(c.parts, depth + 1)

    add(definition.criteria, 0)
    console.print(table)
    console.print(f"read in: {definition.source}", style="dim", markup=False)
    for gate in definition.gates:
        console.print(f"gate {gate.id}: {gate.en}", style="dim", markup=False)


def _filled(definition: Definition, scores: Sequence[Score], console: Console) -> None:
    title = f"{definition.name} {definition.version}"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("criterion", no_wrap=True)
    table.add_column("of", justify="right")
    for s in scores:
        table.add_column(escape(s.total.name), justify="right")

    def add(rows: Sequence[Points], depth: int) -> None:
        """`rows`: the same criterion of every model."""
        first = rows[0]
        table.add_row(f"{'  ' * depth}{first.id}", _number(first.out_of), *(_points(p.points) for p in rows))
        for n in range(max(len(p.parts) for p in rows)):
            if all(len(p.parts) > n for p in rows):
                add([p.parts[n] for p in rows], depth + 1)

    for n in range(len(definition.criteria)):
        add([s.total.criteria[n] for s in scores], 0)
    table.add_section()
    table.add_row("total", _number(definition.total), *(_points(s.total.value) for s in scores), style="bold")
    console.print(table)
    for s in scores:
        if s.total.value is None:
            low, high = s.total.between
            console.print(
                f"{s.total.name}: partial, {100 * float(s.total.covered):.0f} % of the weight is there, so between "
                f"{float(low):.1f} and {float(high):.1f}. Missing: {', '.join(s.total.missing)}.",
                markup=False, highlight=False,
            )  # fmt: skip
        failed = [gate for gate, passed in s.total.gates.items() if passed is False]
        if failed:
            console.print(f"{s.total.name} fails the gate {', '.join(failed)}.", style="red", markup=False)


def _points(value: Fraction | None) -> str:
    return "–" if value is None else f"{float(value):.2f}"


def _number(value: Fraction) -> str:
    return f"{float(value):g}"
