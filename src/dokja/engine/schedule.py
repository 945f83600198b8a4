"""Who waits, who is read, who runs; and who has which pages.

    waiting ──(a row is free, and pages: admit)──► reading ──(its text is read)──► running ──► its end
       ▲                                              │                              │
       └────────────────────(no page is left: the newest is put back)───────────────┘

A text takes over the pages that others have filled with its beginning. Texts that are equal, such as the prompts of a
group in RL, are read once: the first is read, the others follow it and share its pages (`Cache.fork`).

Where pages are limited, the oldest sequence can always go on, since the others can be put back; so every sequence ends.
What was put back is read again, with what it has written, and goes on with the same tokens: what is drawn at a place
depends on scores, seed and position alone.
"""

from __future__ import annotations

from collections import deque

from dokja.engine.batch import Batch, Scheduled
from dokja.engine.forward import Chunk, Forward
from dokja.engine.pages import PAGE, pages_for
from dokja.engine.prefix import Names
from dokja.engine.scored import piece


class Schedule:
    """All sequences of an engine."""

    def __init__(self, forward: Forward, batch: Batch, slots: int, depth: int):
        """`depth`: the most drafts of a step."""
        self._forward, self._cache, self._batch, self._depth = forward, forward.cache, batch, depth
        self.slots = slots
        self._piece = min(forward.chunk, piece(forward.spec.vocab))  # of a prompt that is scored
        self.waiting: deque[Scheduled] = deque()
        self.reading: list[Scheduled] = []
        self._rows = list(range(slots - 1, -1, -1))  # free ones, the first to be taken last
        self._leaders: dict[object, Scheduled] = {}
        self._broken = False
        self.read_tokens = self.reused_tokens = self.preemptions = 0

    @property
    def busy(self) -> bool:
        """Whether anything is read or runs."""
        return bool(self._batch.sequences or self.reading)

    # --- coming -------------------------------------------------------------------------------------------------

    def admit(self) -> None:
        """Begins with what waits, as far as rows and pages are free; a few rows alone wait for more, since reading
        several texts at once costs little more than one."""
        waiting, free = self.waiting, len(self._rows)
        if not waiting or (self.busy and free < min(len(waiting), max(1, self.slots // 8))):
            return
        if not self.busy:
            if self._broken:
                self._cache.wipe()
                self._broken = False
            if self._forward.renewed():
                self._cache.forget()
        while waiting and self._rows and self._begin(waiting[0]):
            waiting.popleft()

    def _begin(self, s: Scheduled) -> bool:
        """Gives a sequence a row and what others have read for it; False where it has to wait for pages."""
        request, first = s.request, s.names is None
        if s.key is None:
            s.text = [*request.prompt, *s.tokens]
            # A prompt that is scored is read for itself: what others have read of it left no scores.
            s.key = (tuple(s.text), request.images, s.order if s.unscored else None)
        if (leader := self._leaders.get(s.key)) is not None:
            if not self._fits(1):
                return False
            s.row, s.state, s.leader = self._rows.pop(), "following", leader
            leader.followers.append(s)
            return True
        if s.names is None:
            vision = self._forward.spec.vision
            image_token, merge = (vision.image_token, vision.merge) if vision else (-1, 1)
            s.names = Names(self._cache.mtp is not None, request.images, image_token, merge)
        row, names = self._rows.pop(), s.names.of(s.text, (len(s.text) - 1) // PAGE)
        s.told = 0 if s.unscored else self._cache.adopt(row, names)
        if not self._fits(self._pages(s) - s.told):
            self._cache.release(row)
            self._rows.append(row)
            return False
        s.row, s.state, s.at = row, "reading", s.told * PAGE
        if s.unscored:
            s.prompt_scores = []  # of a reading that was broken off
        s.sight = self._forward.sight(s.text, request.images, s.at)
        self.reading.append(s)
        self._leaders[s.key] = s
        if first:
            self._reuse(s, s.at)
        return True

    def _reuse(self, s: Scheduled, tokens: int) -> None:
        s.cached_tokens = tokens
        self.reused_tokens += tokens

    def _pages(self, s: Scheduled) -> int:
        """Pages of global layers for the text and the step behind it."""
        return pages_for(len(s.text) + 1 + self._depth)

    def _fits(self, pages: int) -> bool:
        """Whether so many pages are free that nobody has been promised."""
        spare = self._cache.spare
        if spare is None or not self.busy:  # a text alone fits: others are refused
            return True
        held = self._cache.held
        promised = sum(self._pages(s) - held(s.row) + len(s.followers) for s in self.reading)
        return pages <= spare - promised

    # --- reading ------------------------------------------------------------------------------------------------

    def chunks(self, tokens: int) -> list[tuple[Scheduled, Chunk]]:
        """What to read next of each text, in order of arrival: `tokens` of all at most."""
        made: list[tuple[Scheduled, Chunk]] = []
        for s in self.reading.copy():
            chunk = self._piece if s.unscored else self._forward.chunk
            stop = min(s.at + chunk, len(s.text), s.at + tokens)
            if stop > s.at and s.state == "reading" and self._cover(s, stop):
                made.append((s, Chunk(s.row, s.text, s.at, stop, s.sight)))
                tokens -= stop - s.at
        return [(s, chunk) for s, chunk in made if s.state == "reading"]  # later ones may have put others back

    def took(self, chunks: list[tuple[Scheduled, Chunk]]) -> tuple[list[Scheduled], list[int]]:
        """The chunks have been read -> sequences whose texts have ended, and which text of those is theirs."""
        ready: list[Scheduled] = []
        late: list[Scheduled] = []
        for s, chunk in chunks:
            s.at = chunk.stop
            self.read_tokens += chunk.stop - chunk.start
            self._tell(s)
            self._cache.trim(s.row, s.at)
            if s.at == len(s.text):
                ready.append(s)
        which = list(range(len(ready)))
        for number, s in enumerate(ready.copy()):
            self._no_longer_reading(s)
            for follower in s.followers:
                if self._fork(s, follower):
                    ready.append(follower)
                    which.append(number)
                else:
                    late.append(follower)
            s.followers = []
        for s in ready:
            s.state, s.sight, s.covered = "running", None, self._cache.covered(s.row)
        for s in reversed(late):
            self._wait_again(s)
        return ready, which

    def _fork(self, s: Scheduled, follower: Scheduled) -> bool:
        assert s.names is not None
        if not self._cache.fork(s.row, follower.row, len(s.text)):
            return False
        follower.names, follower.told, follower.leader = s.names.copy(), s.told, None
        if not follower.tokens:
            self._reuse(follower, len(follower.text))
        return True

    def _no_longer_reading(self, s: Scheduled) -> None:
        self.reading = [other for other in self.reading if other is not s]
        del self._leaders[s.key]

    # --- running ------------------------------------------------------------------------------------------------

    def make_room(self) -> None:
        """Gives every running sequence pages for a step; where there are none left, the newest are put back."""
        depth = self._depth
        for s in self._batch.sequences.copy():
            if s.length + depth > s.covered and s.state == "running":
                self._cache.trim(s.row, s.length - 1)
                self._cover(s, s.length + depth)

    def _cover(self, s: Scheduled, stop: int) -> bool:
        """Gives a sequence pages up to `stop`; False where it had to be put back itself."""
        while not self._cache.cover(s.row, stop):
            newest = max((*self._batch.sequences, *self.reading), key=lambda other: other.order)
            self._put_back(newest)
            if newest is s:
                return False
        s.covered = self._cache.covered(s.row)
        return True

    def _put_back(self, s: Scheduled) -> None:
        """A sequence waits again, before those that came after it, and so do those that follow it."""
        self.preemptions += 1
        followers = s.followers
        self.let_go(s)
        for other in (*reversed(followers), s):
            self._wait_again(other)

    def _wait_again(self, s: Scheduled) -> None:
        if s.row >= 0:
            self._rows.append(s.row)
        s.row, s.state, s.leader = -1, "waiting", None
        self.waiting.appendleft(s)

    # --- going --------------------------------------------------------------------------------------------------

    def let_go(self, s: Scheduled) -> None:
        """Takes a sequence out, whatever it is doing, and frees its row and pages."""
        if s.state == "waiting":
            self.waiting = deque(other for other in self.waiting if other is not s)
            return
        if s.state == "following":
            assert s.leader is not None
            s.leader.followers = [other for other in s.leader.followers if other is not s]
        elif s.state == "reading":
            self._no_longer_reading(s)
            s.followers = []
        else:
            self._batch.leave(self._batch.number_of(s))
            s.text, s.at, s.key = [*s.request.prompt, *s.tokens], s.length - 1, None
        if s.state != "following":
            self._tell(s)
            self._cache.release(s.row)
        self._rows.append(s.row)
        s.row, s.state, s.leader, s.sight = -1, "waiting", None, None

    def abort(self, s: Scheduled) -> None:
        """Takes a sequence out; if others follow it, the first of them is read in its place."""
        if s.followers:
            heir, *followers = s.followers
            heir.row, s.row = s.row, heir.row
            heir.state, heir.leader, heir.followers = "reading", None, followers
            heir.at, heir.told, heir.sight = s.at, s.told, s.sight
            heir.names = s.names.copy() if s.names else None
            for follower in followers:
                follower.leader = heir
            self.reading = [heir if other is s else other for other in self.reading]
            self._leaders[s.key] = heir
            s.state, s.leader, s.followers = "following", heir, []
        self.let_go(s)

    def broke(self) -> None:
        """The scores were no numbers: what is in the pages must not reach others."""
        self._broken = True

    def _tell(self, s: Scheduled) -> None:
        """Makes known what the sequence's pages hold."""
        assert s.names is not None
        if (known := s.names.known(s.at)) > s.told and not self._broken:
            self._cache.tell(s.row, s.names.of(s.text, known)[s.told :], s.told)
            s.told = known
