"""Names of full pages, by which a new prompt finds what others have read before it.

A page's name is the digest of the page before it, its own token ids, and the images that have a place in it; so it
stands for the whole text up to its end. What the multi-token head keeps at a position depends on the next token as
well; where it is used, the token behind the page belongs to the name.

    name_i = blake2b(name_{i-1}, ids[32i .. 32i+31, and 32i+32 for the head], images in page i)

128 bits: two texts of one name are not to be expected, nor found by anyone who would look for them (2^64 trials).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

from dokja.engine.pages import PAGE
from dokja.text.images import Patches, token_count


def image_digest(image: Patches) -> bytes:
    """Of the pixels and the grid."""
    return blake2b(repr(image.grid).encode() + image.values.tobytes(), digest_size=16).digest()


class Names:
    """The names of a growing text's full pages, made when they are asked for."""

    def __init__(self, head: bool, images: Sequence[Patches] = (), image_token: int = -1, merge: int = 1):
        """`head`: whether the multi-token head is used. `merge` as in `text.images.token_count`."""
        self._head, self._image_token = int(head), image_token
        self._images = [(image_digest(image), token_count(image.grid, merge)) for image in images]
        self._names: list[bytes] = []
        self._left = 0  # places of the image at hand that lie in pages to come

    def copy(self) -> Names:
        """For another text that has the same images and has begun like this one."""
        other = Names(bool(self._head), (), self._image_token)
        other._images, other._names, other._left = self._images.copy(), self._names.copy(), self._left
        return other

    def known(self, length: int) -> int:
        """Full pages of a text whose first `length` tokens are known and read."""
        return max(0, length - self._head) // PAGE

    def of(self, ids: Sequence[int], count: int) -> list[bytes]:
        """Names of the first `count` pages of a text, which must begin as it did the last time."""
        for page in range(len(self._names), count):
            part = ids[page * PAGE : (page + 1) * PAGE + self._head]
            digest = blake2b(self._names[-1] if self._names else b"", digest_size=16)
            digest.update(array("q", part))
            if self._images:
                for name in self._shown(part[:PAGE]):
                    digest.update(name)
            self._names.append(digest.digest())
        return self._names[:count]

    def _shown(self, part: Sequence[int]) -> list[bytes]:
        """Digests of the images in the next page, in order."""
        places, names = part.count(self._image_token), []
        while places:
            digest, count = self._images[0]
            here = min(places, self._left or count)
            names.append(digest)
            places, self._left = places - here, (self._left or count) - here
            if not self._left:
                self._images.pop(0)
        return names
