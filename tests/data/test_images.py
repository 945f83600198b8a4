"""Images beside token ids: exact on disk, never parted from their places, the same for any number of processes."""

from __future__ import annotations

import numpy as np
import pytest

from dokja.data.batch import sweep
from dokja.data.loader import Loader
from dokja.data.shards import ShardSet, ShardWriter
from dokja.errors import DataError

PLACE = 7
SIDES = ((2, 2), (4, 2), (2, 6))
"""An image takes as many places as it has 2 x 2 squares."""


def image(number):
    height, width = SIDES[number % 3]
    return np.full((height, width, 3), number % 251, np.uint8)


def places(pixels):
    return pixels.shape[0] * pixels.shape[1] // 4


def documents(count=120):
    """(ids, images): up to two images, each followed by its number, then some text; every third without any."""
    rng, number = np.random.default_rng(0), 0
    for n in range(count):
        ids, shown = [1], []
        for _ in range(n % 3):
            shown.append(image(number))
            ids += [PLACE] * places(shown[-1])
            number += 1
        yield [*ids, *(10 + rng.integers(0, 40, 3 + n % 11)).tolist(), 2], shown


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write(tmp_path_factory.mktemp("shards") / "seen", tokens_per_file=600)


def write(folder, **options):
    with ShardWriter(folder, 64, **options) as writer:
        for ids, shown in documents():
            writer.add(ids, images=shown)
    return ShardSet.open(folder)


def test_images_come_back_as_written_over_several_files(shards):
    assert len(shards.token_files) > 2 and shards.has_images and shards.index["images"] == 120
    for n, (ids, shown) in enumerate(documents()):
        assert shards.document(n).tolist() == ids
        assert len(shards.images(n)) == len(shown)
        assert all(np.array_equal(a, b) for a, b in zip(shards.images(n), shown, strict=True))


def test_the_same_images_give_the_same_bytes_and_one_pixel_gives_another_identity(shards, tmp_path):
    assert write(tmp_path / "again", tokens_per_file=600).sha256 == shards.sha256
    with ShardWriter(tmp_path / "other", 64, tokens_per_file=600) as writer:
        for n, (ids, shown) in enumerate(documents()):
            shown = [i ^ 1 for i in shown] if n == 50 else shown
            writer.add(ids, images=shown)
    assert ShardSet.open(tmp_path / "other").sha256 != shards.sha256


def test_text_alone_is_written_as_it_always_was(tmp_path):
    with ShardWriter(tmp_path / "text", 64) as writer:
        for ids, _ in documents():
            writer.add([i for i in ids if i != PLACE])
    shards = ShardSet.open(tmp_path / "text")
    assert sorted(shards.index["files"]) == ["docs-000.npy", "tokens-000.bin"] and "images" not in shards.index
    assert not shards.has_images and shards.images(3) == () and shards.longest_with_images == 0
    assert Loader([(shards, 1.0)], 32, 4).batch(0).images is None


def test_every_row_has_the_images_whose_places_it_holds_in_their_order(shards):
    seen = set()
    for step in range(30):
        batch = Loader([(shards, 1.0)], 40, 6, seed=3).batch(step)
        assert batch.images is not None and len(batch.images) == 6
        for row, shown in zip(batch.tokens_BL, batch.images, strict=True):
            assert (row == PLACE).sum() == sum(map(places, shown))
            runs = np.flatnonzero(row == PLACE)
            at = 0
            for pixels in shown:  # neighbours' numbers rise by one inside a document
                at += places(pixels)
                seen.add(pixels.tobytes())
            assert at == len(runs)
    assert len(seen) == len({image(n).tobytes() for n in range(120)})


def test_parts_of_the_processes_join_to_the_whole_batch(shards, tmp_path):
    plain = tmp_path / "plain"
    with ShardWriter(plain, 64) as writer:
        for n in range(60):
            writer.add([1, 20 + n % 9, 30, 2])
    loader = Loader([(shards, 1.0), (ShardSet.open(plain), 1.0)], 40, 8, seed=1)
    whole = loader.batch(2)
    halves = [loader.batch(2, rank, 2) for rank in (0, 1)]
    joined = [shown for half in halves for shown in half.images or ((),) * 4]
    assert len(joined) == 8 and any(not shown for shown in joined)
    for one, other in zip(whole.images, joined, strict=True):
        assert [i.tobytes() for i in one] == [i.tobytes() for i in other]


def test_a_sweep_shows_every_image_once(shards):
    shown = [i.tobytes() for b in sweep(shards, 40, 5) for row in b.images for i in row]
    assert sorted(shown) == sorted(image(n).tobytes() for n in range(120))


def test_a_conversation_with_images_longer_than_a_row_is_refused_and_not_cut(shards):
    longest = shards.longest_with_images
    Loader([(shards, 1.0)], longest - 1, 2).batch(0)
    with pytest.raises(DataError, match=f"Raise seq_len to {longest - 1}"):
        Loader([(shards, 1.0)], longest - 2, 2)
    with pytest.raises(DataError, match="seq_len"):
        next(sweep(shards, longest - 2, 2))


def test_changed_pixels_are_found_and_named(tmp_path):
    folder = tmp_path / "seen"
    write(folder)
    file = folder / "pixels-000.bin"
    raw = bytearray(file.read_bytes())
    raw[17] ^= 1
    file.write_bytes(raw)
    with pytest.raises(DataError, match=r"pixels-000\.bin is changed"):
        ShardSet.open(folder)


def test_what_is_no_image_is_refused(tmp_path):
    with ShardWriter(tmp_path / "bad", 64) as writer, pytest.raises(DataError, match="uint8"):
        writer.add([1, PLACE, 2], images=[np.zeros((2, 2, 3), np.float32)])
