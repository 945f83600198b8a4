"""The log has a line for every request of the API, and none for what browsers load and watchdogs ask all day."""

import json
import logging
import time
from pathlib import Path

import httpx
import pytest
from live import in_thread, script
from models_small import segments, tokens

from dokja.text.chat import Message

SECRET = "a word that nobody should find"


def test_requests_of_the_api_are_logged_without_their_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    answer = tokens("dokja", segments("dokja", Message("assistant", SECRET), False))
    with in_thread({"m": script("dokja", tmp_path, [answer])}, doors=("/ui",)) as url:
        for level in (logging.INFO, logging.DEBUG):
            with caplog.at_level(level, "dokja.serve.requests"):
                for path in ("/ui/look.css", "/health", "/health/ready", "/v1/models", "/nowhere"):
                    httpx.get(url + path)
                body = {"model": "m", "messages": [{"role": "user", "content": SECRET}], "seed": 0}
                body["chat_template_kwargs"] = {"enable_thinking": False}
                assert SECRET in httpx.post(f"{url}/v1/chat/completions", json=body).text
                until = time.monotonic() + 5
                while time.monotonic() < until and "/v1/chat/completions" not in caplog.text:
                    time.sleep(0.01)  # a line is written when all is over
                found = [json.loads(r.message) for r in caplog.records if r.name == "dokja.serve.requests"]
                paths = [line["path"] for line in found]
                quiet = ["/ui/look.css", "/health", "/health/ready"] if level == logging.DEBUG else []
                assert paths == [*quiet, "/v1/models", "/nowhere", "/v1/chat/completions"]
                assert found[-1]["status"] == 200 and found[-1]["completion"] > 0
                assert SECRET not in caplog.text
                caplog.clear()
