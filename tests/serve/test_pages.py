"""The chat page and the runs page, driven without a browser: what is asked of the endpoint and what is seen."""

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from nicegui import ui
from nicegui.testing import User, user_simulation
from pages_scripted import Scripted, pages_of
from PIL import Image

from dokja.serve.pages import runs, strings, strings_runs
from dokja.serve.pages.endpoint import EndpointError
from dokja.serve.pages.frame import Pages
from dokja.serve.pages.mount import add_paths
from dokja.serve.pages.run_figures import RunView, Tail, find_run, list_runs
from dokja.serve.threads import Threads


@pytest.fixture(autouse=True)
def modules_stay() -> Iterator[None]:
    """Behind a test nicegui takes the modules of its pages out of the interpreter, and all of dokja with them."""
    ours = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "dokja"}
    yield
    sys.modules.update(ours)


@contextlib.asynccontextmanager
async def opened(pages: Pages, path: str = "/", **headers: str) -> AsyncIterator[User]:
    """Somebody who looks at a page."""
    async with user_simulation() as user:
        add_paths(pages)
        user.http_client.headers.update(
            {"accept-language": "en", **{k.replace("_", "-"): v for k, v in headers.items()}}
        )
        await user.open(path)
        yield user
        await pages.desk.close()


def drive(work: Awaitable[None]) -> None:
    asyncio.run(work)


async def until(true: Callable[[], object]) -> None:
    for _ in range(300):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


def seen(user: User) -> str:
    """All that stands on the page: words and HTML."""
    found = []
    for element in user.client.layout.descendants():
        if element.visible:
            found += [str(getattr(element, "text", "")), str(getattr(element, "content", ""))]
    return "\n".join(filter(None, found))


def marks(user: User) -> list[str]:
    """What the elements of the page are marked with."""
    return [mark for element in user.client.layout.descendants() for mark in element._markers]


async def answered(user: User, pages: Pages) -> None:
    """The answers are over and shown as such."""
    await until(lambda: not pages.desk._writings)
    await until(lambda: "busy" not in next(iter(user.find(marker="composer").elements)).classes)


async def say(user: User, pages: Pages, text: str, wait: bool = True) -> None:
    user.find(marker="text").trigger("say", text)
    if wait:
        await answered(user, pages)


def test_an_answer_is_shown_kept_and_found_again(tmp_path: Path) -> None:
    async def work() -> None:
        endpoint = Scripted(thought="3 + 4 = 7", text="It is **7**.")
        pages = pages_of(tmp_path, endpoint)
        async with opened(pages) as user:
            await say(user, pages, "3 + 4?")
            assert "It is <strong>7</strong>." in seen(user)
            assert "Thought · 0.0 s · 5 tokens" in seen(user)
            assert "3 + 4 = 7" not in seen(user)  # folded, and not sent before it is unfolded
            user.find(marker="thought").trigger("toggle", True)
            assert "3 + 4 = 7" in seen(user)
            (head,) = pages.threads.heads("local")
            await user.open(f"/t/{head.id}")
            assert "It is <strong>7</strong>." in seen(user) and head.title == "3 + 4?"
        assert endpoint.bodies[0]["messages"] == [{"role": "user", "content": "3 + 4?"}]

    drive(work())


def test_history_goes_along_without_thoughts(tmp_path: Path) -> None:
    async def work() -> None:
        endpoint = Scripted()
        pages = pages_of(tmp_path, endpoint)
        async with opened(pages) as user:
            await say(user, pages, "one")
            await say(user, pages, "two")
        told = [(m["role"], m["content"]) for m in endpoint.bodies[1]["messages"]]
        assert told == [("user", "one"), ("assistant", "It is **7**."), ("user", "two")]

    drive(work())


def test_thinking_and_effort_are_asked_as_they_are_set(tmp_path: Path) -> None:
    async def work() -> None:
        endpoint = Scripted()
        pages = pages_of(tmp_path, endpoint)
        async with opened(pages) as user:
            user.find(marker="high").click()
            await say(user, pages, "deep")
            user.find(marker="think").click()
            await user.should_not_see(marker="high")
            await say(user, pages, "at once")
            assert seen(user).count("Thought ·") == 1
        deep, at_once = endpoint.bodies
        assert (deep["chat_template_kwargs"], deep["reasoning_effort"]) == ({"enable_thinking": True}, "high")
        assert at_once["chat_template_kwargs"] == {"enable_thinking": False} and "reasoning_effort" not in at_once

    drive(work())


def test_a_model_of_one_mode_is_not_told_which(tmp_path: Path) -> None:
    async def work() -> None:
        endpoint = Scripted()
        pages = pages_of(tmp_path, endpoint)
        async with opened(pages) as user:
            user.find(marker="model-deep-2.4b").click()
            await say(user, pages, "q")
            assert user.find(marker="think").elements.pop().props["disabled"]
        assert endpoint.bodies[0]["model"] == "deep-2.4b" and "chat_template_kwargs" not in endpoint.bodies[0]

    drive(work())


def test_two_models_answer_side_by_side_each_with_its_own_history(tmp_path: Path) -> None:
    async def work() -> None:
        endpoint = Scripted()
        pages = pages_of(tmp_path, endpoint)
        async with opened(pages) as user:
            await say(user, pages, "alone")
            # the menu of the first picker and that of comparing name the same model; the later one compares
            line = max(user.find(marker="model-exaone-4.5-33b").elements, key=lambda e: e.id)
            with user.client:
                next(iter(line._event_listeners.values())).handler()
            endpoint.text = "Both."
            await say(user, pages, "together")
            assert seen(user).count("Both.") == 2
            endpoint.text = "Again."
            min(user.find(marker="retry").elements, key=lambda e: e.id)
            await say(user, pages, "and now")
        asked = [(b["model"], len(b["messages"])) for b in endpoint.bodies]
        assert asked[1:3] == [("dokja-tiny", 3), ("exaone-4.5-33b", 3)]
        assert sorted(asked[3:]) == [("dokja-tiny", 5), ("exaone-4.5-33b", 5)]

    drive(work())


def test_stop_ends_the_request_and_keeps_what_was_written(tmp_path: Path) -> None:
    async def work() -> None:
        endpoint = Scripted(thought="", text="word " * 1000, delay=0.005)
        pages = pages_of(tmp_path, endpoint)
        async with opened(pages) as user:
            await say(user, pages, "go on", wait=False)
            await until(lambda: "word" in seen(user))
            user.find(marker="stop").click()
            await answered(user, pages)
            assert "Stopped." in seen(user)
        assert endpoint.closed == 1
        (turn,) = pages.threads.turns("local", pages.threads.heads("local")[0].id)
        assert turn.answer(0).finish == "stopped" and 0 < len(turn.answer(0).content) < 5000

    drive(work())


def test_a_reloaded_page_goes_on_with_what_is_being_written(tmp_path: Path) -> None:
    async def work() -> None:
        endpoint = Scripted(thought="", text="word " * 60 + "finis", delay=0.004)
        pages = pages_of(tmp_path, endpoint)
        async with opened(pages) as user:
            await say(user, pages, "go on", wait=False)
            await until(lambda: "word" in seen(user))
            await user.open(f"/t/{pages.threads.heads('local')[0].id}")
            assert "word" in seen(user) and "finis" not in seen(user)
            await answered(user, pages)
            await until(lambda: "finis" in seen(user))
        assert len(endpoint.bodies) == 1

    drive(work())


def test_an_answer_that_a_killed_server_left_says_so_and_can_be_asked_again(tmp_path: Path) -> None:
    async def work() -> None:
        endpoint = Scripted(text="Whole.")
        pages = pages_of(tmp_path, endpoint)
        thread = pages.threads.new("local", "t")
        half = pages.threads.begin(pages.threads.say("local", thread, None, "q"), 0, "dokja-tiny", True, "low")
        half.content = "Hal"
        pages.threads.save(half)
        async with opened(pages, f"/t/{thread}") as user:
            assert "Hal" in seen(user) and "The server ended while this was written." in seen(user)
            user.find(marker="retry").click()
            await answered(user, pages)
            assert "Whole." in seen(user) and "2/2" in seen(user)
            user.find(marker="earlier").click()
            assert "Hal" in seen(user) and "1/2" in seen(user)

    drive(work())


def test_an_edit_asks_anew_and_the_old_branch_can_be_gone_back_to(tmp_path: Path) -> None:
    async def work() -> None:
        endpoint = Scripted()
        pages = pages_of(tmp_path, endpoint)
        async with opened(pages) as user:
            await say(user, pages, "first")
            await say(user, pages, "second")
            user.find(marker="edit").click()
            user.find(marker="edit-save").trigger("click", "changed")
            await answered(user, pages)
            assert "changed" in seen(user) and "second" not in seen(user)
            user.find(marker="earlier").click()
            assert "second" in seen(user) and "changed" not in seen(user)
        assert endpoint.bodies[-1]["messages"] == [{"role": "user", "content": "changed"}]

    drive(work())


@pytest.mark.parametrize(
    ("status", "words"),
    [(429, "The server is busy."), (503, "not ready yet"), (0, "cannot be reached"), (400, "refused this: too long")],
)
def test_a_refusal_is_said_in_words(tmp_path: Path, status: int, words: str) -> None:
    async def work() -> None:
        endpoint = Scripted()
        endpoint.fails = EndpointError(status, "too long")
        pages = pages_of(tmp_path, endpoint)
        async with opened(pages) as user:
            await say(user, pages, "q")
            assert words in seen(user)

    drive(work())


def test_hostile_titles_questions_and_answers_are_text(tmp_path: Path) -> None:
    async def work() -> None:
        hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>"
        pages = pages_of(tmp_path, Scripted(thought=hostile, text=hostile))
        async with opened(pages) as user:
            await say(user, pages, hostile)
            user.find(marker="thought").trigger("toggle", True)
            for element in user.client.layout.descendants():
                content = str(getattr(element, "content", ""))
                assert "<script" not in content and "<img" not in content
            assert sum(getattr(e, "text", "") == hostile for e in user.client.layout.descendants()) >= 1

    drive(work())


def picture(kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(out, kind)
    return out.getvalue()


def test_pictures_go_to_a_model_that_sees_and_come_back_to_their_owner_alone(tmp_path: Path) -> None:
    async def work() -> None:
        endpoint = Scripted()
        endpoint.cards = [c for c in endpoint.cards if c.sees]
        pages = pages_of(tmp_path, endpoint)
        async with opened(pages) as user:
            (upload,) = user.find(marker="upload").elements
            file = ui.upload.SmallFileUpload
            await upload.handle_uploads([file("a.png", "text/html", picture()), file("b.png", "image/png", b"<svg/>")])
            await until(lambda: user.notify.messages and "waiting-picture" in marks(user))
            assert marks(user).count("waiting-picture") == 1
            assert any("This picture cannot be used" in note for note in user.notify.messages)
            await say(user, pages, "what is it?")
            (turn,) = pages.threads.turns("local", pages.threads.heads("local")[0].id)
            shown = await user.http_client.get(f"/pictures/{turn.pictures[0]}")
            assert (shown.content, shown.headers["content-type"]) == (picture(), "image/png")
            other = {"cookie": "dokja_key=somebody-else"}
            assert (await user.http_client.get(f"/pictures/{turn.pictures[0]}", headers=other)).status_code == 404
        image, text = endpoint.bodies[0]["messages"][0]["content"]
        assert image["image_url"]["url"].startswith("data:image/png;base64,") and text["text"] == "what is it?"

    drive(work())


def test_the_browsers_language_is_taken_and_another_can_be_chosen(tmp_path: Path) -> None:
    async def work() -> None:
        pages = pages_of(tmp_path, Scripted())
        async with opened(pages, accept_language="ko-KR,ko;q=0.9,en;q=0.8") as user:
            assert "무엇을 함께 생각해 볼까요?" in seen(user)
            user.http_client.headers["cookie"] = "dokja_language=en"
            await user.open("/")
            assert "What shall we think about?" in seen(user)

    drive(work())


def test_a_locked_page_asks_for_a_key_and_keys_keep_apart(tmp_path: Path) -> None:
    async def work() -> None:
        pages = pages_of(tmp_path, Scripted(), locked=True)
        async with opened(pages, cookie="dokja_key=mine") as user:
            await say(user, pages, "a secret")
            wrong = await user.http_client.post("/enter", data={"key": "wrong"})
            assert wrong.status_code == 403 and "not known here" in wrong.text
            entered = await user.http_client.post("/enter", data={"key": "yours"})
            cookie = entered.headers["set-cookie"]
            assert entered.status_code == 303 and "HttpOnly" in cookie and "SameSite=strict" in cookie
            user.http_client.headers["cookie"] = "dokja_key=yours"
            await user.open("/")
            assert "a secret" not in seen(user)
            (thread,) = [h.id for owner in _owners(pages.threads) for h in pages.threads.heads(owner)]
            await user.open(f"/t/{thread}")
            assert "a secret" not in seen(user)

    drive(work())


def _owners(threads: Threads) -> list[str]:
    from dokja.serve.pages.frame import Visitor

    return [Visitor("mine", "en", None, True).owner]


def test_a_thread_is_renamed_and_deleted(tmp_path: Path) -> None:
    async def work() -> None:
        pages = pages_of(tmp_path, Scripted())
        pages.threads.new("local", "old name")
        async with opened(pages) as user:
            user.find(marker="rename").click()
            user.find(marker="save").trigger("click", " new   name ")
            assert pages.threads.heads("local")[0].title == "new name"
            user.find(marker="delete").click()
            user.find(marker="delete-sure").click()
            assert pages.threads.heads("local") == []

    drive(work())


def test_streaming_sends_an_answer_about_once(tmp_path: Path) -> None:
    async def work() -> None:
        text = "\n\n".join(f"Paragraph {n} " + "with some words " * 12 for n in range(40))
        pages = pages_of(tmp_path, Scripted(thought="", text=text, step=5))
        async with opened(pages) as user:
            sent = 0
            emit = user.client.outbox._emit

            async def counted(message: tuple[object, str, object]) -> None:
                nonlocal sent
                if message[1] == "update":
                    sent += len(json.dumps(message[2], default=str))
                await emit(message)

            user.client.outbox._emit = counted
            await say(user, pages, "q")
            await asyncio.sleep(0.1)
        assert sent < 6 * len(text)

    drive(work())


def run_folder(folder: Path) -> Path:
    run = folder / "runs" / "mini"
    for stage in ("pretrain", "rl"):
        (run / stage).mkdir(parents=True)
    rows = [
        {"step": n, "loss": 3 / n, "tokens": 100 * n, "seconds": 0.5, "tokens_per_second": 200.0} for n in (1, 2, 3)
    ]
    (run / "pretrain" / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"step": 4, "lo')
    manifest = {"cost": {"seconds": 75, "tokens": 300, "flops_6nd": 2e12, "peak_memory_bytes": 1e9}}
    (run / "pretrain" / "manifest.json").write_text(json.dumps(manifest))
    (run / "pretrain" / "samples.jsonl").write_text(json.dumps({"prompt": "안녕", "text": "<b>hello</b>"}) + "\n")
    return run


def test_the_runs_page_follows_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "EVERY", 0.05)

    async def work() -> None:
        run = run_folder(tmp_path)
        async with opened(pages_of(tmp_path, Scripted()), "/runs") as user:
            await until(lambda: "Costs" in seen(user))
            assert {"1:15", "300", "0.002 PFLOP", "1.00 GB"} <= set(seen(user).splitlines())
            (loss, _) = sorted(user.find(kind=ui.echart).elements, key=lambda e: e.id)
            assert [x for x, _ in loss.options["series"][1]["data"]] == [1.0, 2.0, 3.0]
            assert "<b>hello</b>" in {getattr(e, "text", "") for e in user.client.layout.descendants()}
            with open(run / "pretrain" / "metrics.jsonl", "a") as file:
                file.write('ss": 0.5}\n')
            (run / "rl" / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n{"step": 2, "reward": 0.75}\n')
            await until(lambda: "Reward" in seen(user))
            assert loss.options["series"][1]["data"][-1] == (4.0, 0.5)

    drive(work())


def test_a_file_that_was_cut_back_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": n, "v": "old"}) + "\n" for n in range(5)))
    tail = Tail(path)
    assert tail.read() and not tail.read()
    kept = path.read_text().splitlines(keepends=True)[:2]
    path.write_text("".join(kept) + "".join(json.dumps({"step": n, "v": "new"}) + "\n" for n in range(2, 9)))
    assert tail.read()
    assert [row["step"] for row in tail.rows] == list(range(9)) and tail.rows[4]["v"] == "new"


def test_a_run_is_found_by_its_name_and_nothing_else_is(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    assert list_runs(tmp_path / "runs") == [run] and list_runs(tmp_path / "nowhere") == []
    assert find_run(tmp_path / "runs", "mini") == run
    assert find_run(tmp_path / "runs", "../runs/mini") is None
    assert RunView(run).building is False


def test_every_word_is_there_in_both_languages_with_the_same_places() -> None:
    import string

    for table in (strings.STRINGS, strings_runs.keys()):
        for name, both in table.items():
            places = [{f for _, f, _, _ in string.Formatter().parse(words) if f} for words in both]
            assert places[0] == places[1] and all(both), name


def test_durations_and_languages() -> None:
    assert [strings.duration(s, "en") for s in (0.84, 3, 41.7, 75.0)] == ["0.8 s", "3 s", "42 s", "1 min 15 s"]
    assert strings.pick_language(None, "fr-FR, en;q=0.5, ko;q=0.9") == "ko"
    assert strings.pick_language("en", "ko") == "en" and strings.pick_language(None, ";;q=x") == "en"
