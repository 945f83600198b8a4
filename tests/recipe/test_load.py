"""Layers, `--set`, and the sentences a person gets for what cannot be meant."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokja.errors import ConfigError
from dokja.recipe import Recipe, explain_recipe, load_recipe
from dokja.recipe.imported import Imported

Write = Callable[..., Path]
SMALL = 'name = "small"\nscale = 2\n'


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(text: str = SMALL, name: str = "mine.toml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def complaint(path: Path, *sets: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, sets)
    return str(caught.value)


def test_file_wins_over_base_and_set_wins_over_file(write: Write) -> None:
    write('name = "base"\nscale = 2\nseed = 1\n[model]\nnorm = "pre"\nwidth = 96\n', "base.toml")
    path = write('base = "base.toml"\nname = "mine"\n[model]\nwidth = 128\n')
    recipe = load_recipe(path, ["seed=7"])
    assert (recipe.name, recipe.seed, recipe.model.norm, recipe.model.width) == ("mine", 7, "pre", 128)


def test_origin_of_every_key_is_told(write: Write) -> None:
    write(f"{SMALL}seed = 1\n", "base.toml")
    _, rows = explain_recipe(write('base = "base.toml"\nlanguage = "ko"\n'), ["model.norm=pre"])
    origin = {row.key: row.source for row in rows}
    assert origin["seed"] == "set in base.toml"
    assert origin["language"] == "set in mine.toml"
    assert origin["model.norm"] == "--set"
    assert origin["model.width"] == "derived"
    assert origin["model.qk_norm"] == "default"


def test_a_list_replaces_the_list_of_the_base(write: Write) -> None:
    write(
        f'{SMALL}[[corpus.sources]]\nkind = "tasks"\nname = "one"\n[[corpus.sources]]\nkind = "tasks"\nname = "two"\n',
        "b.toml",
    )
    path = write('base = "b.toml"\n[[corpus.sources]]\nkind = "tasks"\nname = "three"\n')
    assert [source.name for source in load_recipe(path).corpus.sources] == ["three"]


def test_corpus_path_is_relative_to_the_recipe_that_wrote_it(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[[corpus.sources]]\nkind = "text"\nname = "t"\npath = "../texts"\n'
    write(SMALL + text, "shelf/base.toml")
    path = write('base = "shelf/base.toml"\n')
    monkeypatch.chdir(tmp_path.parent)
    assert Path(load_recipe(path).corpus.sources[0].path or "").resolve() == tmp_path / "texts"


def test_a_recipe_that_is_its_own_base_is_refused(write: Write) -> None:
    write('base = "mine.toml"\n', "other.toml")
    assert "its own base" in complaint(write('base = "other.toml"\n'))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("model.widht=64", "Did you mean model.width?"),
        ("layers=4", "Did you mean model.layers?"),
        ("pretran.tokens=5", "Did you mean pretrain?"),
        ("pretrain.token=5", "Did you mean pretrain.tokens?"),
        ("corpus.sources.0.wieght=2", "Did you mean corpus.sources.weight?"),
    ],
)
def test_unknown_key_is_named_with_the_nearest_right_one(write: Write, wrong: str, right: str) -> None:
    path = write(f'{SMALL}[[corpus.sources]]\nkind = "tasks"\nname = "t"\n')
    said = complaint(path, wrong)
    assert said.startswith("Unknown key") and "--set" in said and right in said


def test_unknown_key_names_the_file_that_wrote_it(write: Write) -> None:
    write(f"{SMALL}[model]\nhead_dmi = 32\n", "base.toml")
    said = complaint(write('base = "base.toml"\n'))
    assert "model.head_dmi in base.toml" in said and "model.head_dim" in said


@pytest.mark.parametrize(
    ("sets", "parts"),
    [
        (["scale=0"], ["scale in --set is 0", "greater than or equal to 1"]),
        (["scale=four"], ["'four'", "a whole number"]),
        (["scale=true"], ["a whole number"]),
        (["model.norm=mid"], ["model.norm", "'post' or 'pre'"]),
        (["model.tied=1"], ["true or false"]),
        (["name=a/b"], ["names a folder"]),
        (["pretrain=5"], ["is a section"]),
        (["model.norm.x=2"], ["is a value"]),
        (["corpus.sources.3.weight=1"], ["does not exist"]),
        (["foo"], ["key=value"]),
        (["rl.steps=3"], ["[rl]", "Add [sft]"]),
        (["preference.beta=3"], ["[preference]", "Add [sft]"]),
        (["sft.think_share=0.5", "rl.kl_beta=0.1", "rl.algorithm=dapo"], ["dapo has no KL", "agapo_sequence"]),
        (["sft.think_share=0.5", "rl.budget=200", "rl.max_tokens=100"], ["leaves no room", "rl.max_tokens"]),
        (["sft.think_share=0.5", "rl.steps=3", "rl.updates=2"], ["not a multiple"]),
        (["sft.think_share=0.5", "model.context=64", "preference.seq_len=8"], ["preference.seq_len", "Leave it out"]),
        (["pretrain.mtp_loss=0.1"], ["pretrain.mtp_loss is 0.1", "Add [model.mtp]"]),
        (["model.kv_heads=3"], ["model.heads (4)", "kv_heads (3)"]),
        (["model.head_dim=31"], ["even"]),
        (["model.pattern=G", "model.window=64"], ["no local layer"]),
        (["tokenizer.vocab=200"], ["268"]),
        (["pretrain.batch_tokens=1000", "pretrain.seq_len=64"], ["multiple", "Set it to 1024"]),
        (["pretrain.seq_len=512", "model.context=256"], ["pretrain.seq_len (512)", "model.context (256)"]),
        (["pretrain.tokens=10"], ["less than one batch"]),
        (["pretrain.warmup=0.8"], ["exceed 1 together"]),
        (["judge.max_tokens=9999"], ["would not fit"]),
        (["judge.budget=300", "judge.max_tokens=100"], ["exceeds judge.max_tokens"]),
        (["corpus.sources=[]"], ["empty"]),
        (['corpus.sources=[{kind="text", name="t"}]'], ["names no path"]),
        (['corpus.sources=[{kind="tasks", name="t", path="x"}]'], ["kind = 'text'"]),
        (['corpus.sources=[{kind="tasks", name="t"}, {kind="tasks", name="t"}]'], ["name of its own"]),
        (['corpus.sources=[{kind="text"}]'], ["has no corpus.sources.0.name"]),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_sentence(write: Write, sets: list[str], parts: list[str]) -> None:
    said = complaint(write(f"{SMALL}[pretrain]\n"), *sets)
    assert all(part in said for part in parts), said
    assert "\n" not in said and said[-1] in ".?"


def test_missing_recipe_names_the_one_beside_it(write: Write, tmp_path: Path) -> None:
    write(name="tiny.toml")
    assert "tiny.toml?" in complaint(tmp_path / "tinny.toml")


def test_broken_toml_is_said_with_its_line(write: Write) -> None:
    said = complaint(write("name = \n"))
    assert "not valid TOML" in said and "line 1" in said


def test_counts_may_be_written_as_powers_of_ten(write: Write) -> None:
    recipe = load_recipe(write(f"{SMALL}[pretrain]\n"), ["pretrain.tokens=2e6", "judge.max_tokens=1_0"])
    assert recipe.pretrain is not None
    assert (recipe.pretrain.tokens, recipe.judge.max_tokens) == (2_000_000, 10)


def test_none_takes_a_key_or_a_stage_away(write: Write) -> None:
    path = write(f"{SMALL}[pretrain]\n[sft]\n[model]\nwidth = 96\n")
    recipe = load_recipe(path, ["sft=none", "model.width=none"])
    assert recipe.sft is None and recipe.pretrain is not None
    assert recipe.model.width == 128


def test_recipe_cannot_be_changed_after_loading(write: Write) -> None:
    recipe = load_recipe(write())
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]


def test_every_key_of_the_schema_is_explained() -> None:
    def fields(model: type) -> list[tuple[str, str | None]]:
        return [(f"{model.__name__}.{k}", f.description or f.annotation.__doc__) for k, f in model.model_fields.items()]

    import dokja.recipe as rooms

    models = [getattr(rooms, name) for name in rooms.__all__ if name.endswith("Config")] + [Recipe]
    assert len(models) >= 8
    assert [name for model in models for name, text in fields(model) if not text] == []


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_every_recipe_of_the_project_loads_and_is_named_after_its_file(path: Path) -> None:
    def look(init: str, written: Mapping[str, Any]) -> Imported:
        """A small checkpoint, wherever the recipe looks for one."""
        shape = {"layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "ffn": 96, "context": 4096}
        return Imported({**shape, "pattern": "G", "rope": "all"}, 400, "bfloat16", "Apache-2.0", "")

    assert explain_recipe(path, look=look)[0].name == path.stem


@given(st.text(max_size=40))
def test_no_set_ends_in_anything_but_a_recipe_or_a_sentence(text: str) -> None:
    tiny = Path(__file__).parents[2] / "recipes" / "tiny.toml"
    try:
        assert isinstance(load_recipe(tiny, [text]), Recipe)
    except ConfigError as error:
        assert str(error)
