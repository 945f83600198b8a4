import random

from dokja.text.chat import SPECIALS
from dokja.text.stream import MarkerSplitter, Piece, StreamDecoder


def byte_decoder() -> StreamDecoder:
    """One token a byte: every character beyond ASCII is split over tokens."""
    return StreamDecoder([b""] * len(SPECIALS) + [bytes([b]) for b in range(256)], dict(enumerate(SPECIALS)))


def ids(raw: bytes) -> list[int]:
    return [len(SPECIALS) + b for b in raw]


def test_a_syllable_split_over_tokens_appears_once_and_whole():
    decoder = byte_decoder()
    assert [decoder.feed(i) for i in ids("한a".encode())] == [[], [], [Piece("한")], [Piece("a")]]
    assert decoder.flush() == []


def test_a_torn_syllable_is_shown_as_a_replacement_only_when_it_is_certain():
    decoder = byte_decoder()
    raw = "한".encode()[:2]
    assert [decoder.feed(i) for i in ids(raw)] == [[], []]
    assert decoder.feed(ids(b"a")[0]) == [Piece("\ufffda")]
    assert [decoder.feed(i) for i in ids(raw)] == [[], []]
    assert decoder.feed(2) == [Piece("\ufffd"), Piece("<|end|>", True)]
    assert [decoder.feed(i) for i in ids(raw)] == [[], []]
    assert decoder.flush() == [Piece("\ufffd")]
    assert decoder.flush() == []


def test_any_bytes_stream_to_what_decoding_at_once_gives():
    rng = random.Random(1)
    alphabet = [*"한글👍é a".encode(), 0x00, 0x80, 0xC0, 0xE0, 0xED, 0xA0, 0xF0, 0xF4, 0x90, 0xFF]
    for _ in range(2000):
        raw = bytes(rng.choices(alphabet, k=rng.randint(0, 12)))
        decoder = byte_decoder()
        pieces = [p for i in ids(raw) for p in decoder.feed(i)] + decoder.flush()
        assert "".join(p.text for p in pieces) == raw.decode("utf-8", "replace")


def test_tokens_stream_to_the_decoded_text(tokenizer):
    rng = random.Random(2)
    for _ in range(200):
        tokens = [rng.randrange(tokenizer.vocab_size) for _ in range(20)]
        decoder = tokenizer.stream()
        pieces = [p for t in tokens for p in decoder.feed(t)] + decoder.flush()
        assert [p.text for p in pieces if p.special] == [SPECIALS[t] for t in tokens if t < len(SPECIALS)]
        runs = [[]]
        for t in tokens:
            runs[-1].append(t) if t >= len(SPECIALS) else runs.append([])
        assert "".join(p.text for p in pieces if not p.special) == "".join(tokenizer.decode(run) for run in runs)


def test_markers_are_found_however_the_text_is_cut():
    rng = random.Random(3)
    parts = [*SPECIALS, "<", "<|", "<t", "<thi", "</", "|>", ">", "답", "a\n"]
    for _ in range(1000):
        text = "".join(rng.choices(parts, k=rng.randint(0, 8)))
        whole, cut = MarkerSplitter(), MarkerSplitter()
        expected = joined(whole.feed(text) + whole.flush())
        pieces, at = [], 0
        while at < len(text):
            step = rng.randint(1, 5)
            pieces += cut.feed(text[at : at + step])
            at += step
        assert joined(pieces + cut.flush()) == expected
        assert "".join(p.text for p in expected) == text


def test_text_that_cannot_become_a_marker_is_not_held_back():
    splitter = MarkerSplitter()
    assert splitter.feed("a < b <x") == [Piece("a < b <x")]
    assert splitter.feed("y<thin") == [Piece("y")]
    assert splitter.feed("k>z") == [Piece("<think>", True), Piece("z")]


def joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbouring ordinary pieces as one."""
    out: list[Piece] = []
    for piece in pieces:
        if out and not piece.special and not out[-1].special:
            out[-1] = Piece(out[-1].text + piece.text)
        else:
            out.append(piece)
    return out
