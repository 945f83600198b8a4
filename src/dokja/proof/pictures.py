"""The images of a question, drawn again for the report: records hold their hashes, not their pixels."""

from __future__ import annotations

from dokja.errors import DokjaError
from dokja.judge.records import Record
from dokja.tasks.registry import TASKS
from dokja.tasks.splits import image_sha256
from dokja.text.images import data_url


def pictures(record: Record) -> list[str]:
    """Data URLs of PNGs; none where the images cannot be drawn, or come out otherwise than they were asked."""
    if not record.images or record.task not in TASKS:
        return []
    try:
        seed = int(record.problem_id.rsplit("/", 1)[-1])
        shown = TASKS[record.task].problem(seed, record.level, record.language).images
    except (DokjaError, ValueError):  # no Pillow, or a problem of another version
        return []
    return [data_url(i) for i in shown] if tuple(map(image_sha256, shown)) == record.images else []
