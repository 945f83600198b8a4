"""The tables of `dokja plan`: every figure beside its formula."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from dokja.cli.strings import Language
from dokja.cli.strings_plan import COLUMNS, ROWS, TITLES, WORDS
from dokja.model.plan.devices import USABLE, Device
from dokja.model.plan.memory import Job, Memory, activations, loss_rows
from dokja.model.plan.mesh import Mesh
from dokja.model.plan.serve import Serving
from dokja.model.plan.step import Step
from dokja.model.spec import ModelSpec

Row = tuple[str, str, str]


@dataclass(frozen=True)
class Case:
    """What is planned, and in which language it is told."""

    name: str
    spec: ModelSpec
    mesh: Mesh
    device: Device
    language: Language

    def row(self, key: str, value: str, **words: Any) -> Row:
        """Label, value and formula."""
        label, formula = ROWS[key][self.language]
        return label.format(**words), value, formula.format(**words)

    def word(self, key: str, **words: Any) -> str:
        """A phrase inside a formula."""
        return WORDS[key][self.language].format(**words)

    def title(self, key: str, **words: Any) -> str:
        """Heading of a table."""
        return TITLES[key][self.language].format(**words)


def print_head(case: Case, console: Console) -> None:
    """The shape and what it runs on."""
    s, m = case.spec, case.mesh
    vision = case.word("vision_params", n=s.vision_params) if s.vision else ""
    mtp = case.word("mtp_params", n=s.mtp_params) if s.mtp else ""
    found = [
        case.row("params", f"{s.params:,}", vision=vision, mtp=mtp),
        case.row("active", f"{s.active_params:,}"),
    ]
    _table(case.title("shape", name=case.name, mesh=m, devices=m.devices, device=case.device.name), found, console)


def print_training(case: Case, job: Job, memory: Memory, step: Step, tokens: tuple[int, str], console: Console) -> None:
    """Memory, time and traffic of training; `tokens` are the recipe's and where they come from."""
    _table(case.title("memory"), memory_rows(case, job, memory), console)
    _table(case.title("step"), step_rows(case, job, step, tokens), console)
    if step.traffic:
        _table(case.title("traffic"), traffic_rows(case, job, step), console)
    console.print(case.word("legend"), style="dim")


def memory_rows(case: Case, job: Job, memory: Memory) -> list[Row]:
    """Bytes of a device in training."""
    s, m, d = case.spec, case.mesh, case.device
    words = {
        "flying": min(job.micro_batches(m), m.pp - memory.stage),
        "tokens": job.micro_tokens,
        "bytes": job.value_bytes,
    }

    def kept(key: str, recompute: bool) -> Row:
        size = activations(s, m, replace(job, recompute=recompute), memory.stage)
        return case.row(key, size_of(size), **words, chosen=case.word("chosen") if job.recompute == recompute else "")

    gathered = "one" if m.dp == 1 else "fsdp" if m.pp == 1 else "pp"
    return [
        case.row(
            "job", f"{job.batch_tokens:,}", rows=job.batch_tokens // job.seq, seq=job.seq, micro=job.micro_batches(m),
            per_rank=job.rows_per_rank(m), micro_rows=job.micro_rows,
        ),
        case.row("weights", size_of(memory.weights)),
        case.row("gradients", size_of(memory.gradients)),
        case.row("optimizer", size_of(memory.optimizer)),
        case.row(f"gathered.{gathered}", size_of(memory.gathered)),
        kept("activations", False),
        kept("recomputed", True),
        case.row("logits", size_of(memory.logits), rows=min(job.micro_tokens, loss_rows(s.vocab))),
        case.row(
            "total", size_of(memory.total), usable=size_of(d.usable), share=USABLE, memory=size_of(d.memory)
        ),
    ]  # fmt: skip


def step_rows(case: Case, job: Job, step: Step, tokens: tuple[int, str]) -> list[Row]:
    """FLOPs and seconds of a step."""
    s, d, p = case.spec, case.device, case.mesh.pp
    asked, origin = tokens
    mtp = case.word("mtp") if s.mtp else ""
    found = [
        case.row("flops_token", f"{step.flops / step.tokens:.4g}", n=s.trained_params(s.mtp is not None), mtp=mtp,
                 share=step.attention_flops / step.flops),
        case.row("flops_step", f"{step.flops:.4g}", tokens=step.tokens),
    ]  # fmt: skip
    if step.recompute_flops:
        found.append(case.row("recompute_flops", f"{step.recompute_flops:.4g}"))
    found += [
        case.row("muon_flops", f"{step.muon_flops:.4g}"),
        case.row("compute", time_of(step.compute), peak=rate_of(d.flops, "FLOP/s"), mfu=d.mfu),
        case.row("bubble", f"{step.bubble:.1%}", p1=p - 1, m=step.micro_batches),
        case.row("expected", time_of(step.seconds)),
        case.row("worst", time_of(step.worst)),
        case.row("speed", f"{step.tokens_per_second:,.0f}", mfu=step.mfu),
        case.row("days", days_of(asked / step.tokens_per_second), tokens=asked, origin=case.word(f"origin.{origin}")),
    ]
    return found


def traffic_rows(case: Case, job: Job, step: Step) -> list[Row]:
    """Bytes and seconds along every axis."""
    times = step.micro_batches if case.mesh.pp == 1 else 1
    words = {
        "gathers": times * (2 if case.mesh.pp == 1 else 1),
        "scatters": times,
        "passes": 6 if job.recompute else 4,
    }
    return [
        case.row(t.axis, f"{size_of(t.bytes)}, {time_of(t.seconds)} @ {rate_of(t.rate, 'B/s')}", **words)
        for t in step.traffic
    ]


def print_serving(case: Case, serving: Serving, console: Console) -> None:
    """Keys and values, weights, and the limits of decoding."""
    layers = sum(layer.window is None for layer in case.spec.layer_specs)
    found = [case.row("kv_token", size_of(serving.kv_token), globals_=layers)]
    for length, size in serving.kv.items():
        both = f"{size_of(size)} ({size / 2**30:,.2f} GiB)"
        found.append(case.row("kv", both, length=length, device=size_of(serving.kv_device[length])))
    for w in serving.weights:
        key = "held" if w.free >= 0 else "held.over"
        found.append(case.row(key, size_of(w.bytes), kind=w.kind, free=size_of(abs(w.free))))
    _table(case.title("serve"), found, console)
    table = Table(
        title=case.title("served", copy=case.mesh.tp * case.mesh.pp), title_justify="left", box=box.SIMPLE_HEAD
    )
    for name in COLUMNS[case.language]:
        table.add_column(name, justify="left" if name == COLUMNS[case.language][0] else "right")
    for s in serving.served:
        rates = [f"{r:,.0f}" if r else "–" for r in (s.alone, s.together)]
        table.add_row(s.kind, f"{s.length:,}", f"{s.sequences:,}", *rates)
    console.print(table)
    console.print(case.word("served", bandwidth=rate_of(case.device.bandwidth, "B/s")), style="dim")


def _table(title: str, rows: list[Row], console: Console) -> None:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True, style="bold")
    table.add_column(overflow="fold", style="dim")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def size_of(size: float) -> str:
    """Bytes as a person reads them, in powers of 1000."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size) >= scale:
            return f"{size / scale:,.3g} {unit}" if abs(size) < 1000 * scale else f"{size / scale:,.0f} {unit}"
    return f"{size:,.0f} B"


def rate_of(rate: float, unit: str) -> str:
    """A rate with a prefix."""
    for prefix, scale in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if rate >= scale:
            return f"{rate / scale:,.4g} {prefix}{unit}"
    return f"{rate:,.0f} {unit}"


def time_of(seconds: float) -> str:
    """Seconds, or milliseconds where they are few."""
    return f"{seconds:,.3g} s" if seconds >= 1 else f"{seconds * 1e3:,.3g} ms"


def days_of(seconds: float) -> str:
    """Days, or minutes where they are few."""
    return f"{seconds / 86400:,.1f}" if seconds >= 8640 else f"{seconds / 86400:.4f} ({seconds / 60:.1f} min)"
