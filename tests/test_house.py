"""The house rule: imports go down only; files have one reason to exist; what needs no torch loads none."""

import ast
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"
HOUSE = SRC / "dokja"
# From the roof to the cellar: a room may import itself and what stands below it.
ROOMS = [
    "cli", "road", "agents", "serve", "proof", "judge", "train", "engine", "model", "tasks", "data", "text", "ledger",
    "recipe",
]  # fmt: skip
EVERYWHERE = {"errors", "__init__"}
HEAPS = {"utils.py", "helpers.py", "common.py", "misc.py"}
VERBS = ["build", "show", "plan", "judge", "speed", "compare", "chat", "serve", "keys", "export", "doctor"]


def files() -> list[Path]:
    return sorted(HOUSE.rglob("*.py"))


def room(module: str) -> str:
    """`dokja.text.chat` is of the room `text`; `dokja` itself of `__init__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> list[tuple[int, str]]:
    """(line, module) of every import of our own modules in a file, those inside functions included."""
    here = module_of(path)
    package = here if path.name == "__init__.py" else here.rpartition(".")[0]
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, base]).rstrip(".")
            # `from dokja import road` imports the module dokja.road
            found += [(node.lineno, f"{base}.{alias.name}" if base == "dokja" else base) for alias in node.names]
    return [(line, name) for line, name in found if name.split(".")[0] == "dokja"]


def violations(path: Path) -> list[str]:
    mine = room(module_of(path))
    if mine in EVERYWHERE or mine == "__main__":
        allowed = set(ROOMS) if mine == "__main__" else set()
    else:
        allowed = set(ROOMS[ROOMS.index(mine) :])
    return [
        f"{path.relative_to(SRC)}:{line} imports {name}, which does not stand below {mine}"
        for line, name in imported(path)
        if room(name) not in allowed | EVERYWHERE | {"__version__"}
    ]


def test_every_file_stands_in_a_room_of_the_plan() -> None:
    strays = {room(module_of(path)) for path in files()} - set(ROOMS) - EVERYWHERE - {"__main__"}
    assert not strays


def test_imports_go_down_only() -> None:
    assert [problem for path in files() for problem in violations(path)] == []


@pytest.mark.parametrize(
    "line",
    ["from dokja.cli import main", "import dokja.train.loop", "from dokja import road", "from ..judge import run"],
)
def test_an_import_going_up_is_seen(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dokja" / "text" / "planted.py"
    path.parent.mkdir(parents=True)
    path.write_text(f"def f():\n    {line}\n", encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "SRC", tmp_path)
    assert len(violations(path)) == 1


def test_files_have_one_reason_to_exist() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    assert [f"{p.relative_to(SRC)}: {n} lines" for p, n in lengths.items() if n > 500] == []
    assert statistics.median(n for p, n in lengths.items() if p.name != "__init__.py") <= 200
    assert [p for p in lengths if p.name in HEAPS] == []


def heavy_modules_after(code: str) -> str:
    """Names of the heavy modules that `code` loaded, run in a fresh interpreter."""
    check = "import sys; print(sorted({'torch', 'transformers', 'matplotlib', 'tokenizers'} & sys.modules.keys()))"
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    [
        "import dokja",
        "import dokja.recipe, dokja.recipe.load",
        "\n".join(f"import dokja.ledger.{path.stem}" for path in sorted((HOUSE / "ledger").glob("[a-z]*.py"))),
        "import dokja.cli.main, dokja.cli.show_run",
    ],
    ids=["dokja", "recipe", "ledger", "cli"],
)
def test_importing_loads_no_torch(code: str) -> None:
    assert heavy_modules_after(code) == "[]"


@pytest.mark.parametrize("argv", [[], *([verb] for verb in VERBS)], ids=["dokja", *VERBS])
def test_help_loads_no_torch(argv: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['dokja', *{argv!r}, '--help']\n"
        "from dokja.cli.main import run\n"
        "try: run()\n"
        "except SystemExit as done: assert done.code == 0, done.code"
    )
    assert heavy_modules_after(code) == "[]"


def test_showing_a_recipe_loads_no_torch() -> None:
    recipe = SRC.parent / "recipes" / "tiny.toml"
    code = (
        f"import sys; sys.argv = ['dokja', 'show', 'recipe', {str(recipe)!r}]\n"
        "from dokja.cli.main import run\n"
        "try: run()\n"
        "except SystemExit as done: assert done.code == 0, done.code"
    )
    assert heavy_modules_after(code) == "[]"
