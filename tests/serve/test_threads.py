"""Conversations of the chat page: branches, retries, owners, and what a kill leaves."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dokja.errors import DataError
from dokja.serve.threads import Threads

ME = "local"
SRC = Path(__file__).parent.parent.parent / "src"


@pytest.fixture
def threads(tmp_path: Path) -> Threads:
    return Threads(tmp_path / "kept" / "threads.db")


def answered(threads: Threads, turn: int, text: str, lane: int = 0) -> int:
    answer = threads.begin(turn, lane, "m", True, "low")
    answer.content, answer.finish = text, "stop"
    threads.save(answer)
    return answer.id


def test_a_conversation_is_read_as_it_was_written(threads: Threads) -> None:
    thread = threads.new(ME, "합")
    first = threads.say(ME, thread, None, "3 + 4?", [("image/png", b"one"), ("image/png", b"two")])
    answer = threads.begin(first, 0, "m", True, "high")
    answer.reasoning, answer.content, answer.finish, answer.thought_seconds = "음", "7", "stop", 1.5
    threads.save(answer)
    threads.say(ME, thread, first, "고마워")
    one, two = threads.turns(ME, thread)
    assert (one.text, two.text, two.parent) == ("3 + 4?", "고마워", first)
    assert one.answer(0) == answer and two.answer(0) is None
    assert [threads.picture(ME, name) for name in one.pictures] == [("image/png", b"one"), ("image/png", b"two")]


def test_an_edit_is_a_branch_and_the_old_one_is_still_there(threads: Threads) -> None:
    thread = threads.new(ME, "t")
    root = threads.say(ME, thread, None, "root")
    old = threads.say(ME, thread, root, "old", [("image/png", b"seen")])
    end = threads.say(ME, thread, old, "end of old")
    new = threads.say(ME, thread, root, "new", keep=threads.turns(ME, thread)[1].pictures)
    shown = threads.turns(ME, thread)
    assert [turn.text for turn in shown] == ["root", "new"]
    assert (shown[1].place, shown[1].siblings) == (1, [old, new])
    assert threads.picture(ME, shown[1].pictures[0]) == ("image/png", b"seen")
    threads.show_turn(ME, thread, old)
    assert [turn.id for turn in threads.turns(ME, thread)] == [root, old, end]


def test_a_retry_is_shown_until_the_earlier_answer_is_chosen(threads: Threads) -> None:
    thread = threads.new(ME, "t")
    turn = threads.say(ME, thread, None, "q")
    first, beside = answered(threads, turn, "first"), answered(threads, turn, "beside", lane=1)
    answered(threads, turn, "second")
    (shown,) = threads.turns(ME, thread)
    assert [shown.answer(lane).content for lane in (0, 1)] == ["second", "beside"]
    threads.show_answer(turn, 0, first)
    (shown,) = threads.turns(ME, thread)
    assert [shown.answer(lane).content for lane in (0, 1)] == ["first", "beside"]
    assert shown.answers[1][0].id == beside


def test_a_lane_that_began_later_has_the_first_lanes_history(threads: Threads) -> None:
    thread = threads.new(ME, "t")
    turn = threads.say(ME, thread, None, "q")
    answered(threads, turn, "alone")
    assert threads.turns(ME, thread)[0].answer(1).content == "alone"


def test_nobody_sees_or_changes_what_is_anothers(threads: Threads) -> None:
    thread = threads.new(ME, "mine")
    turn = threads.say(ME, thread, None, "q", [("image/png", b"x")])
    (picture,) = threads.turns(ME, thread)[0].pictures
    assert threads.heads("you") == []
    for act in (
        lambda: threads.turns("you", thread),
        lambda: threads.head("you", thread),
        lambda: threads.setting("you", thread),
        lambda: threads.choose("you", thread, {}),
        lambda: threads.rename("you", thread, "yours"),
        lambda: threads.delete("you", thread),
        lambda: threads.say("you", thread, turn, "hello"),
        lambda: threads.show_turn("you", thread, turn),
        lambda: threads.picture("you", picture),
    ):
        with pytest.raises(KeyError):
            act()
    assert threads.head(ME, thread).title == "mine"


def test_pictures_and_turns_of_another_thread_are_not_taken_over(threads: Threads) -> None:
    mine, yours = threads.new(ME, "mine"), threads.new("you", "yours")
    turn = threads.say("you", yours, None, "q", [("image/png", b"secret")])
    (picture,) = threads.turns("you", yours)[0].pictures
    threads.say(ME, mine, None, "look", keep=[picture])
    assert threads.turns(ME, mine)[0].pictures == []
    with pytest.raises(KeyError):
        threads.say(ME, mine, turn, "after yours")


def test_what_is_deleted_leaves_no_text_in_the_file(tmp_path: Path) -> None:
    threads = Threads(tmp_path / "threads.db")
    thread = threads.new(ME, "t")
    turn = threads.say(ME, thread, None, "a very secret question", [("image/png", b"secret picture")])
    answered(threads, turn, "a very secret answer")
    threads.delete(ME, thread)
    threads.close()
    left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"secret" not in left


def test_a_kill_loses_nothing_that_was_saved(tmp_path: Path) -> None:
    place = tmp_path / "threads.db"
    code = (
        "import sys\nfrom dokja.serve.threads import Threads\n"
        f"t = Threads({str(place)!r})\nthread = t.new('local', 'kept')\n"
        "turn = t.say('local', thread, None, 'q')\nanswer = t.begin(turn, 0, 'm', None, None)\n"
        "answer.content = 'half'\nt.save(answer)\nprint(thread, flush=True)\nsys.stdin.read()\n"
    )
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    work = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, env=env, text=True)
    assert work.stdout is not None
    thread = work.stdout.readline().strip()
    work.send_signal(signal.SIGKILL)
    work.wait()
    work.stdout.close()
    work.stdin.close()
    (turn,) = Threads(place).turns(ME, thread)
    assert (turn.answer(0).content, turn.answer(0).finish) == ("half", None)


def test_a_place_that_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Name another place"):
        Threads(tmp_path / "file" / "threads.db")
    (tmp_path / "broken.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(DataError, match="Name another place"):
        Threads(tmp_path / "broken.db")
