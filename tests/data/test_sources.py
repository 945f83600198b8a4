import json
import sys

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from dokja.data.sources import Document, is_held_out, read_documents, source_files
from dokja.errors import DataError

TEXTS = ["하나 둘", "three\nfour", "다섯"]


def lines(texts, key="text"):
    return b"".join(
        json.dumps({key: text, "n": n}, ensure_ascii=False).encode() + b"\n" for n, text in enumerate(texts)
    )


def texts(path, **options):
    return [document.text for document in read_documents(path, source="s", **options)]


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_every_ending_gives_the_same_documents(tmp_path):
    write(tmp_path / "a.jsonl", lines(TEXTS))
    write(tmp_path / "a.jsonl.zst", zstandard.compress(lines(TEXTS)))
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), tmp_path / "a.parquet")
    for n, text in enumerate(TEXTS):
        write(tmp_path / f"{n}.txt", text)
    for path in ("a.jsonl", "a.jsonl.zst", "a.parquet", "*.txt"):
        assert texts(tmp_path / path) == TEXTS


def test_files_are_read_in_the_order_of_their_names_and_hidden_or_unknown_ones_are_left_out(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/c.txt", ".hidden/x.txt", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, name)
    assert texts(tmp_path) == ["a/c.txt", "a/z.txt", "b.txt"]
    assert texts(tmp_path / "**" / "z.txt") == ["a/z.txt"]


def test_excluded_files_are_left_out_unless_named_in_full(tmp_path):
    for name in ("ko-00.txt", "ko-heldout.txt"):
        write(tmp_path / name, name)
    assert texts(tmp_path, exclude=["*-heldout*"]) == ["ko-00.txt"]
    assert texts(tmp_path / "ko-heldout.txt", exclude=["*-heldout*"]) == ["ko-heldout.txt"]
    with pytest.raises(DataError, match="excluded"):
        source_files(tmp_path, exclude=["*"])


def test_ids_lead_back_and_blank_texts_are_passed_over(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a", "id": "x:7"}\n\n{"text": "  "}\n{"text": "b"}\n')
    documents = list(read_documents(path, source="name"))
    assert documents == [Document("a", None, "name", "x:7"), Document("b", None, "name", "a.jsonl:4")]


def test_limit_stops_with_the_document_that_reaches_it(tmp_path):
    path = write(tmp_path / "a.jsonl", lines(["가나", "다", "라"]))  # 6, 3 and 3 bytes
    assert texts(path, limit_bytes=6) == ["가나"]
    assert texts(path, limit_bytes=7) == ["가나", "다"]
    assert len(texts(path, limit_bytes=100)) == 3


def test_several_zstd_frames_are_read_as_one_file(tmp_path):
    frames = b"".join(zstandard.compress(lines([text])) for text in TEXTS)
    assert texts(write(tmp_path / "a.jsonl.zst", frames)) == TEXTS


def test_big_txt_is_cut_at_blank_lines_and_loses_nothing(tmp_path):
    paragraph = "낱말 " * 5000 + "\n\n"
    path = write(tmp_path / "a.txt", paragraph * 100)
    parts = texts(path)
    assert "".join(parts) == paragraph * 100
    assert len(parts) > 10 and all(part.endswith("\n\n") for part in parts)


def test_conversations_are_read_as_messages(tmp_path):
    call = {"function": {"name": "add", "arguments": '{"a": 1}'}}
    record = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "reasoning": "둘", "tool_calls": [call]}]
    path = write(tmp_path / "a.jsonl", json.dumps({"messages": record}))
    (document,) = read_documents(path, source="s", messages_key="messages")
    user, answer = document.messages
    assert document.text is None and user.content == "1+1?"
    assert answer.reasoning == "둘" and answer.tool_calls[0].arguments == {"a": 1}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{oops}", "not JSON"),
        ('{"text": "cut', "truncated"),
        ("[1]", "no key 'text'"),
        ('{"body": "x"}', r"no key 'text' \(body\)\. Set `text_key`"),
        ('{"text": 3}', "not text"),
        (b'{"text": "\xff"}', "not UTF-8"),
    ],
)
def test_a_bad_line_is_named_with_file_and_number(tmp_path, line, says):
    path = write(tmp_path / "a.jsonl", b'{"text": "fine"}\n' + (line if isinstance(line, bytes) else line.encode()))
    with pytest.raises(DataError, match=rf"a\.jsonl, line 2: .*{says}"):
        texts(path)


@pytest.mark.parametrize("messages", [[], "hello", ["hello"], [{"role": "robot", "content": "x"}]])
def test_a_bad_conversation_is_named_with_file_and_line(tmp_path, messages):
    path = write(tmp_path / "a.jsonl", json.dumps({"messages": messages}))
    with pytest.raises(DataError, match=r"a\.jsonl, line 1"):
        list(read_documents(path, source="s", messages_key="messages"))


def test_damaged_files_are_named_and_never_read_short(tmp_path):
    whole = zstandard.compress(lines([f"word {n}" for n in range(2000)]))
    with pytest.raises(DataError, match=r"b\.jsonl\.zst is truncated"):
        texts(write(tmp_path / "b.jsonl.zst", whole[:-1]))
    with pytest.raises(DataError, match=r"c\.jsonl\.zst is damaged"):
        texts(write(tmp_path / "c.jsonl.zst", b"not zstd at all"))
    with pytest.raises(DataError, match=r"d\.parquet"):
        texts(write(tmp_path / "d.parquet", "not parquet"))
    with pytest.raises(DataError, match=r"e\.txt is not UTF-8"):
        texts(write(tmp_path / "e.txt", b"\xb0\xa1"))


def test_a_wrong_path_is_told_before_the_first_document(tmp_path):
    (tmp_path / "empty").mkdir()
    for path, says in (("nowhere", "No corpus at"), ("empty", "No corpus files"), ("*.jsonl", "No corpus files")):
        with pytest.raises(DataError, match=says):
            read_documents(tmp_path / path, source="s")
    with pytest.raises(DataError, match="unknown ending"):
        read_documents(write(tmp_path / "a.docx", "x"), source="s")


def test_parquet_problems_say_what_to_do(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x", None]}), path)
    with pytest.raises(DataError, match=r"no column 'text' \(body\)"):
        texts(path)
    with pytest.raises(DataError, match="row 2"):
        texts(path, text_key="body")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="pip install"):
        texts(path, text_key="body")


def test_held_out_share_follows_the_text_alone():
    documents = [Document(f"문서 {n}", None, "s", str(n)) for n in range(2000)]
    out = [d for d in documents if is_held_out(d, 0.1)]
    assert 150 < len(out) < 250
    assert all(is_held_out(Document(d.text, None, "other", "copy"), 0.1) for d in out)
    assert all(is_held_out(d, 0.2) for d in out)  # a larger share keeps the smaller one
