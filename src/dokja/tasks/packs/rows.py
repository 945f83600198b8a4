"""Data files to rows: JSON lines, a JSON array, tables, parquet; plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from dokja.errors import ConfigError, DataError

Row = dict[str, Any]


def read_rows(path: Path) -> tuple[list[Row], str]:
    """The rows of a file and the SHA-256 of its text (for parquet, of the file). DataError for a damaged file."""
    name = path.name.removesuffix(".gz")
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        if name.endswith(".parquet"):
            return _parquet(path), hashlib.sha256(raw).hexdigest()
        text = raw.decode("utf-8-sig")
        if name.endswith((".csv", ".tsv")):
            lines = csv.DictReader(io.StringIO(text), delimiter="\t" if name.endswith(".tsv") else ",")
            rows = [{key: value for key, value in row.items() if key is not None} for row in lines]
        elif text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, OSError, EOFError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}). Restore it from its source.") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} holds no rows of named fields. Restore it from its source.")
    return rows, hashlib.sha256(raw).hexdigest()


def _parquet(path: Path) -> list[Row]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ConfigError(f"{path.name} is parquet: pip install 'dokja[parquet]' to read it.") from error
    rows: list[Row] = parquet.read_table(path).to_pylist()
    return rows
