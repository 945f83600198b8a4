"""`dokja doctor sandbox` says what holds, and its status says whether all does."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from dokja.cli.main import app
from dokja.tasks.sandbox import doctor, isolation
from dokja.tasks.sandbox.doctor import Finding
from dokja.tasks.sandbox.isolation import Isolation

HERE = Isolation("landlock", None, root=False)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    findings = [Finding("network", True, "network (down)")]
    monkeypatch.setattr(isolation, "find_isolation", lambda: HERE)
    monkeypatch.setattr(doctor, "examine", lambda isolation: findings)
    return findings


def test_all_held(found: list[Finding]) -> None:
    result = CliRunner().invoke(app, ["doctor", "sandbox", "--json"])
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said["held"] and said["isolation"] == str(HERE) and said["attacks"][0]["name"] == "network"


def test_a_breach_is_told_and_ends_in_status_two(found: list[Finding]) -> None:
    found.append(Finding("files of the host, read", False, "got through"))
    result = CliRunner().invoke(app, ["doctor", "sandbox"])
    assert result.exit_code == 2 and "NOT HELD: got through" in result.stdout


def test_other_things_are_refused() -> None:
    assert "is not a thing to examine" in str(CliRunner().invoke(app, ["doctor", "cellar"]).exception)
