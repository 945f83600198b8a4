"""Writing a small file so that a reader sees the old one or the new one, never half of either."""

import os
from pathlib import Path


def write_atomic(path: Path, data: bytes) -> None:
    """Write beside `path`, fsync, rename over it, fsync the folder. On failure (a full disk) the old file stays."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    os.replace(partial, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
