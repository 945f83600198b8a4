import errno
import json

import numpy as np
import pytest

from dokja.data import shards as shards_module
from dokja.data.shards import ShardSet, ShardWriter
from dokja.errors import DataError
from dokja.ledger.hashing import sha256_file

DOCUMENTS = [[5, 6, 7], [], [8], list(range(40)), [1, 2]]


def write(path, documents=DOCUMENTS, flags=False, **options):
    with ShardWriter(path, options.pop("vocab", 100), **options) as writer:
        for ids in documents:
            writer.add(ids, [token % 2 for token in ids] if flags else None, utf8_bytes=3 * len(ids))
    return path


@pytest.mark.parametrize("tokens_per_file", [2, 41, 1000])
@pytest.mark.parametrize("vocab", [100, 65536, 65537])
def test_documents_and_flags_come_back_as_written(tmp_path, tokens_per_file, vocab):
    documents = [*DOCUMENTS, [vocab - 1]]
    shards = ShardSet.open(write(tmp_path, documents, flags=True, vocab=vocab, tokens_per_file=tokens_per_file))
    assert [shards.document(n).tolist() for n in range(shards.documents)] == documents
    assert [shards.loss(n).tolist() for n in range(shards.documents)] == [[t % 2 for t in ids] for ids in documents]
    assert shards.lengths.tolist() == [len(ids) for ids in documents]
    assert (shards.tokens, shards.utf8_bytes) == (47, 141)
    assert shards.index["loss_tokens"] == sum(t % 2 for ids in documents for t in ids)


def test_without_flags_every_token_bears_loss(tmp_path):
    shards = ShardSet.open(write(tmp_path))
    assert not shards.has_loss and shards.index["loss_tokens"] == shards.tokens
    assert shards.loss(0).tolist() == [1, 1, 1]


def test_same_documents_give_the_same_bytes_and_other_ones_another_identity(tmp_path):
    first, second = (ShardSet.open(write(tmp_path / name)) for name in "ab")
    assert (tmp_path / "a/shards.json").read_bytes() == (tmp_path / "b/shards.json").read_bytes()
    changed = ShardSet.open(write(tmp_path / "c", [[5, 6, 9], *DOCUMENTS[1:]]))
    assert first.sha256 == second.sha256 != changed.sha256


def test_index_holds_the_hash_of_every_file(tmp_path):
    files = ShardSet.open(write(tmp_path, flags=True, tokens_per_file=10)).index["files"]
    on_disk = {file.name for file in tmp_path.iterdir()} - {"shards.json"}
    assert set(files) == on_disk and len(files) > 3
    assert all(sha256_file(tmp_path / name) == facts["sha256"] for name, facts in files.items())


@pytest.mark.parametrize("name", ["tokens-000.bin", "loss-000.bin", "docs-000.npy"])
def test_changed_truncated_or_missing_file_is_named(tmp_path, name):
    file = write(tmp_path, flags=True) / name
    data = file.read_bytes()
    flipped = data[:-1] + bytes([data[-1] ^ 1])
    for bad, says in ((flipped, "changed"), (data[:-1], "truncated"), (data + b"x", "changed"), (None, "missing")):
        if bad is None:
            file.unlink()
        else:
            file.write_bytes(bad)
        with pytest.raises(DataError, match=rf"{name} is {says}.*rebuilds the stage"):
            ShardSet.open(tmp_path)
        if len(bad or b"") != len(data):  # sizes are looked at even when hashes are not
            with pytest.raises(DataError, match=says):
                ShardSet.open(tmp_path, verify=False)


def test_a_file_changed_after_it_was_verified_is_found(tmp_path):
    file = write(tmp_path) / "tokens-000.bin"
    ShardSet.open(tmp_path)
    file.write_bytes(bytes(len(file.read_bytes())))
    with pytest.raises(DataError, match="changed"):
        ShardSet.open(tmp_path)


def test_unchanged_files_are_hashed_once_per_process(tmp_path, monkeypatch):
    write(tmp_path)
    ShardSet.open(tmp_path)
    monkeypatch.setattr(shards_module, "sha256_file", lambda path: pytest.fail(f"hashed {path} again"))
    ShardSet.open(tmp_path)


def test_unfinished_or_damaged_folder_is_refused(tmp_path):
    writer = ShardWriter(tmp_path, 100)
    writer.add([1, 2, 3])
    with pytest.raises(DataError, match="not finished"):
        ShardSet.open(tmp_path)
    writer.close()
    (tmp_path / "shards.json").write_text('{"format": 1')
    with pytest.raises(DataError, match="damaged"):
        ShardSet.open(tmp_path)
    (tmp_path / "shards.json").write_text('{"format": 99}')
    with pytest.raises(DataError, match="does not read"):
        ShardSet.open(tmp_path)


def test_a_failed_writer_leaves_no_index_and_the_next_one_starts_clean(tmp_path):
    write(tmp_path, tokens_per_file=10)
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path, 100) as writer:
        writer.add([1])
        raise ZeroDivisionError
    assert not (tmp_path / "shards.json").exists()
    assert ShardSet.open(write(tmp_path)).documents == len(DOCUMENTS)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["docs-000.npy", "shards.json", "tokens-000.bin"]


def test_offsets_that_disagree_with_the_tokens_are_refused(tmp_path):
    write(tmp_path)
    np.save(tmp_path / "docs-000.npy", np.array([0, 3, 3, 4, 44, 45]))
    index = json.loads((tmp_path / "shards.json").read_text())
    file = tmp_path / "docs-000.npy"
    index["files"][file.name] = {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    (tmp_path / "shards.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="disagree"):
        ShardSet.open(tmp_path)


def test_shards_of_another_tokenizer_are_refused(tmp_path):
    write(tmp_path, tokenizer_sha256="abc")
    assert ShardSet.open(tmp_path, tokenizer_sha256="abc").tokenizer_sha256 == "abc"
    with pytest.raises(DataError, match="another tokenizer"):
        ShardSet.open(tmp_path, tokenizer_sha256="def")


def test_full_disk_is_one_sentence_and_no_index(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards_module._HashedFile, "write", full)
    with pytest.raises(DataError, match=r"No space left on device\. Make room"), ShardWriter(tmp_path, 100) as writer:
        writer.add([1, 2])
    assert not (tmp_path / "shards.json").exists()


def test_wrong_ids_and_uneven_flags_are_bugs_of_the_caller(tmp_path):
    writer = ShardWriter(tmp_path, 10)
    for ids, flags in (([10], None), ([-1], None), ([1, 2], [1])):
        with pytest.raises(ValueError):
            writer.add(ids, flags)
    writer.add([1, 2], [0, 1])
    with pytest.raises(ValueError, match="all documents or for none"):
        writer.add([1, 2])


def test_memory_of_the_writer_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "_FLUSH_TOKENS", 100)
    writer = ShardWriter(tmp_path, 100)
    most = 0
    for _ in range(200):
        writer.add([1] * 30)
        most = max(most, sum(len(part) for part in writer._ids))
    assert most < 130
    assert writer.close()["tokens"] == 6000
