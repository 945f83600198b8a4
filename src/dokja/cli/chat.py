"""`dokja chat`: talk to a model in the terminal, or line by line through a pipe."""

import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dokja.cli.model_path import Weights, find_model
from dokja.cli.strings import Language, pick_language, say
from dokja.engine.effort import Effort, thought
from dokja.errors import DokjaError

if TYPE_CHECKING:
    from dokja.cli.session import Session
    from dokja.text.parse import Delta


def chat(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A release folder, a GGUF file, a run folder or a run's name.")
    ],
    think: Annotated[
        bool | None, typer.Option("--think/--no-think", help="Think before answering; else the model's default.")
    ] = None,
    thoughts: Annotated[bool, typer.Option("--thoughts", help="Leave the thoughts on the screen.")] = False,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer, thought included.")] = 512,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="0 answers greedily; else as the model's makers recommend.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Nucleus kept when sampling.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling.")] = 0,
    budget: Annotated[int | None, typer.Option(min=1, help="Tokens a thought may take before it is closed.")] = None,
    effort: Annotated[Effort | None, typer.Option(help="How long to think, where no budget is given.")] = None,
    weights: Annotated[
        Weights, typer.Option(help="Fewer bits: faster answers of a large model, a little less exact.")
    ] = "fp32",
    draft: Annotated[int, typer.Option(min=0, help="Tokens to guess ahead a step; faster, the same answers.")] = 0,
    language: Annotated[str | None, typer.Option(help="Language of this program, ko or en; else the locale's.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the run folders.")] = Path("runs"),
) -> None:
    """Talk to a model. Inside: /think and /no_think switch the mode, /image FILE shows a picture with the next message,
    /reset forgets, /quit leaves."""
    folder = find_model(model, runs, files=True)
    # After the name is known to be right: these load torch, which takes seconds.
    from dokja.cli.session import Sampling, Session
    from dokja.engine.load import load_engine
    from dokja.engine.recommended import Recommended

    engine, tokenizer, info = load_engine(folder, weights=None if weights == "fp32" else weights, draft=draft)
    advised, words = info["sampling"], pick_language(language)
    if temperature is not None:  # what else is recommended belongs to the recommended temperature
        advised = Recommended(temperature, advised.top_p)
    if top_p is not None:
        advised = replace(advised, top_p=top_p)
    if effort is not None and think is None:
        think = thought(effort, max_tokens, info["spec"]["context"], budget=budget, modes=info["style"].modes).thinking
    sampling = Sampling(max_tokens, seed=seed, budget=budget, effort=effort, **asdict(advised))
    session = Session(
        engine,
        tokenizer,
        context=info["spec"]["context"],
        sampling=sampling,
        thinking=think,
        system=system,
        images=info["images"],
        style=info["style"],
    )
    if sys.stdin.isatty() and sys.stdout.isatty():
        talk(session, info["name"], words, thoughts)
    else:
        pipe(session, words, thoughts)


def command(session: "Session", line: str, language: Language) -> str | None:
    """Carry out a line that begins with a slash; the sentence to print, or None when it was /quit."""
    if line == "/quit":
        return None
    if line in ("/think", "/no_think"):
        if not session.style.supports("think" if line == "/think" else "direct"):
            return say("one_mode", language)
        session.thinking = line == "/think"
        return say("think_on" if session.thinking else "think_off", language)
    if line == "/reset":
        session.reset()
        return say("reset", language)
    if line.startswith("/image "):
        return attach(session, line.removeprefix("/image ").strip(), language)
    return say("unknown", language, command=line.split()[0])


def attach(session: "Session", path: str, language: Language) -> str:
    """Show an image file with the next message; the sentence to print."""
    from dokja.text.images import read_image

    if session.images is None:
        return say("blind", language)
    try:
        session.pending.append(read_image(Path(path).expanduser()))
    except DokjaError as error:
        return str(error)
    height, width, _ = session.pending[-1].shape
    return say("image", language, path=path, width=width, height=height)


def pipe(session: "Session", language: Language, thoughts: bool) -> None:
    """Without a terminal: one line in, one answer out, nothing else on stdout; remarks go to stderr."""
    for raw in sys.stdin:
        line = raw.strip()
        if line.startswith("/"):
            said = command(session, line, language)
            if said is None:
                return
            print(said, file=sys.stderr)
        elif line:
            try:
                deltas = list(session.ask(line))
            except DokjaError as error:
                print(error, file=sys.stderr)
                continue
            reasoning = "".join(d.text for d in deltas if d.kind == "reasoning")
            if thoughts and reasoning:
                print(f"<think>{reasoning}</think>")
            print("".join(d.text for d in deltas if d.kind != "reasoning"), flush=True)
            for remark in remarks(session, language):
                print(remark, file=sys.stderr)


def talk(session: "Session", name: str, language: Language, thoughts: bool) -> None:
    """On a terminal: a prompt with line editing, the thought dim while it comes and folded when it is done."""
    import readline  # noqa: F401 - gives input() its editing and history

    from rich.console import Console

    console = Console(highlight=False)
    console.print(say("welcome", language, name=name), style="dim")
    while True:
        try:
            line = input(f"\n{say('you', language)}> ").strip()
        except (EOFError, KeyboardInterrupt):
            line = "/quit"
        if not line:
            continue
        if line.startswith("/"):
            said = command(session, line, language)
            console.print(said or say("bye", language), style="dim", markup=False)
            if said is None:
                return
            continue
        try:
            stream_answer(session, line, console, language, thoughts)
        except DokjaError as error:
            console.print(str(error), style="red", markup=False)


def stream_answer(session: "Session", line: str, console: Any, language: Language, thoughts: bool) -> None:
    """Print one answer as it comes. Ctrl-C stops it; what was said stays in the conversation."""
    from rich.live import Live
    from rich.text import Text

    live: Live | None = None
    reasoning = ""

    def fold() -> None:
        nonlocal live
        if live is None:
            return
        live.stop()
        live = None
        if thoughts:
            console.print(reasoning, style="dim", markup=False)
        folded = say("thought", language, tokens=session.thought_tokens, seconds=session.thought_seconds)
        console.print(folded, style="dim", markup=False)

    answer = session.ask(line)
    ctrl_c = CtrlC()
    try:
        for delta in ctrl_c.until_pressed(answer):
            if delta.kind == "reasoning":
                reasoning += delta.text
                if live is None:
                    live = Live(console=console, transient=True, refresh_per_second=12)
                    live.start()
                # A thought longer than the screen shows its end, where it is being written.
                shown = Text(reasoning, style="dim").wrap(console, console.width)[-max(1, console.height - 4) :]
                live.update(Text("\n").join(shown))
            else:
                fold()
                style = "cyan" if delta.kind == "tool_call" else None
                console.print(delta.text, end="", style=style, markup=False, soft_wrap=True)
    finally:
        answer.close()  # type: ignore[attr-defined]
        fold()
    console.print()
    for remark in [say("stopped", language)] if ctrl_c.pressed else remarks(session, language):
        console.print(remark, style="dim", markup=False)


class CtrlC:
    """Notes Ctrl-C instead of raising it: an exception can get lost in a callback of whatever happens to run.

    A second press raises KeyboardInterrupt as ever, for an engine that does not come back.
    """

    def __init__(self) -> None:
        self.pressed = False

    def until_pressed(self, deltas: "Iterable[Delta]") -> "Iterator[Delta]":
        """The deltas, until Ctrl-C is pressed."""

        def press(number: int, frame: object) -> None:
            if self.pressed:
                raise KeyboardInterrupt
            self.pressed = True

        before = signal.signal(signal.SIGINT, press)
        try:
            for delta in deltas:
                if self.pressed:
                    return
                yield delta
        finally:
            signal.signal(signal.SIGINT, before)


def remarks(session: "Session", language: Language) -> list[str]:
    """What a person should know of the answer that just ended."""
    said = [say("forgot", language)] if session.forgot else []
    if session.finish == "length":
        said.append(say("cut" if session.thought_closed else "unfinished", language))
    return said
