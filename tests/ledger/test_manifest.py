"""Manifests: a key that changes with what matters, and outputs that cannot be damaged unseen."""

from pathlib import Path

import pytest

from dokja.errors import DataError
from dokja.ledger.manifest import (
    Manifest,
    check_outputs,
    code_version,
    hash_outputs,
    read_manifest,
    stage_key,
    write_manifest,
)


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "tokens-000.bin").write_bytes(bytes(range(200)))
    (tmp_path / "notes.txt").write_text("독자", encoding="utf-8")
    outputs = hash_outputs(tmp_path, ["shards", "notes.txt"])
    write_manifest(tmp_path, Manifest("corpus", "k", {"a": 1}, {"text": "0" * 64}, outputs, cost={"seconds": 1.5}))
    return tmp_path


def manifest(stage: Path) -> Manifest:
    found = read_manifest(stage)
    assert found is not None
    return found


def test_what_was_written_is_read_back(stage: Path) -> None:
    found = manifest(stage)
    assert set(found.outputs) == {"shards/tokens-000.bin", "notes.txt"}
    assert found.sizes == {"shards/tokens-000.bin": 200, "notes.txt": 6}
    assert found.cost == {"seconds": 1.5} and found.created.endswith("Z")
    check_outputs(stage, found)


def test_an_unfinished_stage_has_no_manifest(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "truncated: 199 of 200"),
        (lambda path: path.write_bytes(b"\x01" + path.read_bytes()[1:]), "altered"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "altered"),
    ],
    ids=["missing", "truncated", "one byte changed", "one byte more"],
)
def test_a_damaged_output_is_named(stage: Path, damage, word: str) -> None:  # type: ignore[no-untyped-def]
    damage(stage / "shards" / "tokens-000.bin")
    with pytest.raises(DataError) as caught:
        check_outputs(stage, manifest(stage))
    assert word in str(caught.value) and "tokens-000.bin" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stage": "corpus"}'])
def test_a_damaged_manifest_is_refused(stage: Path, text: str) -> None:
    (stage / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        read_manifest(stage)


def test_a_full_disk_leaves_the_old_manifest(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (stage / "manifest.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dokja.ledger.atomic.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_manifest(stage, Manifest("corpus", "other", {}, {}, {}))
    assert (stage / "manifest.json").read_bytes() == before
    assert list(stage.glob("*.partial")) == []


def test_stage_key_changes_with_config_inputs_and_code_only() -> None:
    key = stage_key({"a": 1, "b": {"c": 2}}, {"x": "1"}, "code")
    assert key == stage_key({"b": {"c": 2}, "a": 1}, {"x": "1"}, "code")
    others = [({"a": 2, "b": {"c": 2}}, {"x": "1"}, "code"), ({"a": 1, "b": {"c": 2}}, {"x": "2"}, "code")]
    others.append(({"a": 1, "b": {"c": 2}}, {"x": "1"}, "other code"))
    assert len({key, *(stage_key(*other) for other in others)}) == 4


def test_code_version_is_of_the_named_rooms_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("text/chat.py", "text/deep/more.py", "data/sources.py", "road.py", "__init__.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.setattr("dokja.__file__", str(tmp_path / "__init__.py"))
    before = code_version(["text", "road.py"])
    (tmp_path / "data" / "sources.py").write_text("changed")
    (tmp_path / "text" / "__pycache__").mkdir()
    (tmp_path / "text" / "__pycache__" / "chat.pyc").write_bytes(b"1")
    assert code_version(["road.py", "text"]) == before
    (tmp_path / "text" / "deep" / "more.py").write_text("changed")
    assert code_version(["text", "road.py"]) != before
    with pytest.raises(ValueError, match="no room"):
        code_version(["attic"])
