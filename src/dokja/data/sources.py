"""A person's files as a stream of documents, in a fixed order and in bounded memory.

| ending | documents |
|---|---|
| `.txt` | one per file up to 1 MB; a bigger one is cut at the first blank line after 64 KB (any line end after 1 MB) |
| `.jsonl`, `.jsonl.zst` | one per line, the text under `text_key` |
| `.parquet` | one per row, the text in the column `text_key` (needs `pyarrow`) |

`path` is a file, a folder (every file below it with one of these endings, hidden ones left out) or a glob (`**` goes
deep); files are read in the order of their names. Texts that are empty or blank are passed over. Whatever cannot be
read ends in a `DataError` with file and line: a corpus which is silently shorter than it looks is worse than a stop.
"""

import fnmatch
import glob
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from dokja.errors import DataError, DokjaError
from dokja.text.chat import Message

ENDINGS = (".txt", ".jsonl", ".jsonl.zst", ".parquet")
WHOLE_TXT_BYTES = 1_000_000
TXT_PIECE_CHARS = 64 * 1024


@dataclass(frozen=True, slots=True)
class Document:
    """A text, or a conversation; never both."""

    text: str | None
    messages: tuple[Message, ...] | None
    source: str
    id: str


def source_files(path: str | Path, exclude: Sequence[str] = ()) -> list[Path]:
    """The files that `path` stands for, sorted. `exclude` holds globs on file names (`*-heldout*`); a file which is
    named in full is never excluded."""
    path = Path(path).expanduser()
    if path.is_file():
        if not path.name.endswith(ENDINGS):
            raise DataError(f"{path}: unknown ending. A source is one of {', '.join(ENDINGS)}.")
        return [path]
    if path.is_dir():
        found = [p for p in path.rglob("*") if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    elif glob.has_magic(str(path)):
        found = [Path(p) for p in glob.glob(str(path), recursive=True)]
    else:
        raise DataError(f"No corpus at {path}. Give an existing file, folder or glob as `path`.")
    known = [p for p in found if p.name.endswith(ENDINGS) and p.is_file()]
    files = sorted(p for p in known if not any(fnmatch.fnmatch(p.name, pattern) for pattern in exclude))
    if not files:
        why = f"all {len(known)} are excluded by {', '.join(exclude)}" if known else f"looked for {', '.join(ENDINGS)}"
        raise DataError(f"No corpus files under {path} ({why}). Put text there or correct `path`.")
    return files


def read_documents(
    path: str | Path,
    *,
    source: str,
    text_key: str = "text",
    messages_key: str | None = None,
    limit_bytes: int | None = None,
    exclude: Sequence[str] = (),
) -> Iterator[Document]:
    """Documents of `path`, file after file.

    messages_key: read this key as a conversation instead of `text_key` as a text (JSON lines and parquet).
    limit_bytes:  stop with the document that reaches so many UTF-8 bytes of text. The first files are what is kept,
                  so shuffled files are the better sample.
    """
    files = source_files(path, exclude)  # here, so that a wrong `path` is told at once and not at the first `next`
    return _documents(files, source, text_key, messages_key, limit_bytes)


def _documents(
    files: list[Path], source: str, text_key: str, messages_key: str | None, limit_bytes: int | None
) -> Iterator[Document]:
    taken = 0
    for file in files:
        for record, name, where in _records(file, messages_key or text_key):
            if messages_key is not None:
                messages = _messages(record, where)
                yield Document(None, messages, source, name)
                taken += sum(len(m.content.encode()) + len((m.reasoning or "").encode()) for m in messages)
            elif not isinstance(record, str):
                raise DataError(f"{where}: {text_key!r} holds {type(record).__name__}, not text.")
            elif record.strip():
                yield Document(record, None, source, name)
                taken += len(record.encode()) if limit_bytes is not None else 0
            if limit_bytes is not None and taken >= limit_bytes:
                return


def is_held_out(document: Document, fraction: float) -> bool:
    """Whether a document belongs to the held-out share. It follows from the text alone, so equal texts fall on the
    same side whatever file they stand in, and adding documents moves none."""
    words = document.text if document.text is not None else repr(document.messages)
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") < fraction * 2**64


def _messages(record: Any, where: str) -> tuple[Message, ...]:
    if not isinstance(record, list) or not record or not all(isinstance(message, dict) for message in record):
        raise DataError(f'{where}: no list of messages. Write [{{"role": .., "content": ..}}, ..].')
    try:
        return tuple(Message.from_dict(message) for message in record)
    except DokjaError as error:
        raise DataError(f"{where}: {error}") from error


def _records(file: Path, key: str) -> Iterator[tuple[Any, str, str]]:
    """(value under `key`, id of the document, file and line for error sentences)"""
    try:
        if file.name.endswith(".txt"):
            yield from _txt(file)
        elif file.name.endswith(".parquet"):
            yield from _parquet(file, key)
        else:
            yield from _json_lines(file, key)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}.") from error


def _txt(file: Path) -> Iterator[tuple[str, str, str]]:
    whole = file.stat().st_size <= WHOLE_TXT_BYTES
    piece: list[str] = []
    size, number = 0, 0
    try:
        with open(file, encoding="utf-8-sig") as stream:
            while line := stream.readline(WHOLE_TXT_BYTES):
                piece.append(line)
                size += len(line)
                cut = size >= WHOLE_TXT_BYTES or (size >= TXT_PIECE_CHARS and not line.strip())
                if cut and not whole:
                    number += 1
                    yield "".join(piece), f"{file.name}:{number}", str(file)
                    piece, size = [], 0
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 ({error.reason}). Convert it, for example with `iconv`.") from error
    if piece:
        yield "".join(piece), file.name if whole else f"{file.name}:{number + 1}", str(file)


def _json_lines(file: Path, key: str) -> Iterator[tuple[Any, str, str]]:
    with open(file, "rb") as raw:
        lines = io.BufferedReader(_ZstdFile(raw, file), 1 << 20) if file.name.endswith(".zst") else raw
        for number, line in enumerate(lines, start=1):
            where = f"{file}, line {number}"
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise DataError(f"{where}: not UTF-8 ({error.reason}). Convert the file to UTF-8.") from error
            except json.JSONDecodeError as error:
                torn = "" if line.endswith(b"\n") else " The line has no end: the file looks truncated."
                raise DataError(
                    f"{where}: not JSON ({error.msg}, column {error.colno}).{torn} Repair or remove the line."
                ) from error
            if not isinstance(record, dict) or key not in record:
                keys = ", ".join(map(str, record)) if isinstance(record, dict) else "it is no object"
                raise DataError(f"{where}: no key {key!r} ({keys}). Set `text_key` to the key that holds the text.")
            yield record[key], str(record.get("id", f"{file.name}:{number}")), where


def _parquet(file: Path, key: str) -> Iterator[tuple[Any, str, str]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"Reading {file} needs pyarrow, which is not installed. Run `pip install 'dokja[parquet]'`."
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            columns = table.schema_arrow.names
            if key not in columns:
                names = ", ".join(columns)
                raise DataError(f"{file}: no column {key!r} ({names}). Set `text_key` to the one that holds the text.")
            wanted = [key, "id"] if "id" in columns and key != "id" else [key]
            number = 0
            for part in table.iter_batches(batch_size=1024, columns=wanted):
                values = part.column(key).to_pylist()
                ids = part.column("id").to_pylist() if "id" in wanted else [None] * len(values)
                for value, name in zip(values, ids, strict=True):
                    number += 1
                    yield value, f"{file.name}:{number}" if name is None else str(name), f"{file}, row {number}"
    except pyarrow.ArrowException as error:
        raise DataError(f"{file} is not a readable parquet file: {error}. Fetch or write it again.") from error


class _ZstdFile(io.RawIOBase):
    """The plain bytes of a zstd file of any number of frames (`cat a.zst b.zst`, pzstd).

    zstandard's own `stream_reader` ends without a word where a file was cut short; here that is an error."""

    def __init__(self, raw: io.BufferedReader, file: Path) -> None:
        self._raw, self._file = raw, file
        self._decoder = zstandard.ZstdDecompressor(max_window_size=2**31)
        self._frame: Any = None
        self._compressed, self._plain = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            self._compressed = self._compressed or self._raw.read(1 << 16)
            if not self._compressed:
                if self._frame is not None:
                    raise DataError(f"{self._file} is truncated: its last zstd frame has no end. Fetch it again.")
                return 0
            self._frame = self._frame or self._decoder.decompressobj()
            try:
                self._plain = memoryview(self._frame.decompress(self._compressed))
            except zstandard.ZstdError as error:
                raise DataError(f"{self._file} is damaged ({error}). Fetch it again.") from error
            self._compressed = b""
            if self._frame.eof:
                self._compressed, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._plain))
        buffer[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size
