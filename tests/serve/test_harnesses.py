"""Harnesses of other people, as they come from their packages, against `dokja serve`: what they report is true.

They are no dependencies. Where they are not installed beside dokja, name a Python that has them:

    python -m venv other && other/bin/pip install 'lm-eval[api]' transformers inspect-ai openai
    DOKJA_HARNESS=other/bin/python pytest -m slow tests/serve/test_harnesses.py
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_serve_command import Process, checkpoint, small_tokenizer

pytestmark = pytest.mark.slow
ROWS = [
    {"sentence": "three plus four is", "1": "seven", "2": "독자", "Answer": "1"},
    {"sentence": "안녕하세요. 독자는", "1": "four", "2": "모델입니다.", "Answer": "2"},
    {"sentence": "3 + 4 =", "1": "7;", "2": "자기만의", "Answer": "1"},
]
CHOICE = """
task: choose
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{sentence}}"
doc_to_choice: !function choices.both
doc_to_target: !function choices.right
target_delimiter: " "
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
WRITE = """
task: write
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{sentence}}"
doc_to_target: "{{Answer}}"
generation_kwargs: {until: [";"], do_sample: false, max_gen_toks: 12}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
CHOICES = """
def both(row):
    return [row["1"], row["2"]]


def right(row):
    return int(row["Answer"]) - 1
"""
INSPECT = """
import sys
from typing import Literal

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import ToolFunction, tool

heard = []

@tool
def weather():
    async def execute(city: Literal["서울", "부산"], now: bool) -> str:
        '''Tells the weather.

        Args:
            city: Where.
            now: Whether it is the weather of now.
        '''
        heard.append((city, now))
        return "sunny"
    return execute

model = get_model(
    "openai-api/dokja/tiny", base_url=sys.argv[1], api_key="none", responses_api=False,
    config=GenerateConfig(
        max_tokens=900, seed=3, temperature=1.0, max_connections=2,
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
    ),
)
task = Task(
    [Sample("three plus four", target="x"), Sample("독자", target="y")],
    solver=[use_tools(weather(), tool_choice=ToolFunction("weather")), generate()], scorer=includes(), message_limit=6,
)
(log,) = eval(task, model=model, log_dir=sys.argv[2], display="none")
assert log.status == "success", log.error
for sample in log.samples:
    roles = [m.role for m in sample.messages]
    assert roles[:3] == ["user", "assistant", "tool"], roles
    assert sample.messages[1].tool_calls[0].function == "weather"
    assert sample.messages[2].text == "sunny", sample.messages[1:3]
    assert len(roles) >= 4, "the model speaks after the tool"
assert len(heard) >= 2 and all(city in ("서울", "부산") and isinstance(now, bool) for city, now in heard), heard
print("usage", log.stats.model_usage)
"""


def python_with(*modules: str) -> str:
    """A Python that has these; the test is skipped where there is none."""
    for python in (sys.executable, os.environ.get("DOKJA_HARNESS")):
        code = "import " + ", ".join(modules)
        if python and subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0:
            return python
    # they bring hundreds of MB and pins of their own, so they are no part of dev
    pytest.skip(f"{' and '.join(modules)}: not installed (see above)")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(f"tiny={checkpoint(tmp_path_factory.mktemp('tiny'))}", "--slots", "8")
    yield process
    assert process.end() == 0


def run(argv: list[str], folder: Path) -> str:
    away = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    env = {**os.environ, **away, "OPENAI_API_KEY": "none", "HF_HOME": str(folder / "hf")}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def lm_eval(folder: Path, model: str, arguments: str, tasks: str, *more: str) -> dict[str, list[dict[str, Any]]]:
    """The samples of every task."""
    python = python_with("lm_eval", "transformers", "datasets", "aiohttp", "tenacity")
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))
    for name, text in (("choose", CHOICE), ("write", WRITE)):
        (folder / f"{name}.yaml").write_text(text.replace("DATA", str(data)))
    (folder / "choices.py").write_text(CHOICES)
    out = folder / "out"
    argv = [python, "-m", "lm_eval", "run", "--model", model, "--model_args", arguments, "--include_path", str(folder)]
    run([*argv, "--tasks", tasks, "--output_path", str(out), "--log_samples", *more], folder)
    return {
        task: [json.loads(line) for file in out.rglob(f"samples_{task}_*.jsonl") for line in file.open()]
        for task in tasks.split(",")
    }


def test_lm_eval_reads_the_log_likelihoods_that_the_model_gives(server: Process, tmp_path: Path) -> None:
    import torch

    from dokja.engine.load import load_decoder

    arguments = (
        f"model=tiny,base_url={server.url}/completions,tokenizer={server.folder},num_concurrent=3,max_length=1024"
    )
    samples = lm_eval(tmp_path, "local-completions", arguments, "choose,write")
    decoder, tok = load_decoder(server.folder), small_tokenizer()
    assert len(samples["choose"]) == len(samples["write"]) == len(ROWS)
    for sample in samples["choose"]:
        for request, ((logprob, greedy),) in zip(sample["arguments"].values(), sample["resps"], strict=True):
            context, rest = request["arg_0"], request["arg_1"]
            ids = tok.encode(context + rest)
            begin = len(tok.encode(context))
            with torch.no_grad():
                logp = decoder(torch.tensor([ids]))[0].log_softmax(-1)[begin - 1 : -1]
            wanted = logp.gather(1, torch.tensor(ids[begin:])[:, None]).sum()
            assert float(logprob) == pytest.approx(float(wanted), abs=1e-3)
            assert (str(greedy) == "True") == (logp.argmax(-1).tolist() == ids[begin:])
    for sample in samples["write"]:
        ((said,),) = sample["resps"]
        with server.client() as client:
            prompt = tok.encode(sample["doc"]["sentence"])
            own = client.completions.create(model="tiny", prompt=prompt, max_tokens=12, temperature=0, stop=[";"])
        assert said == own.choices[0].text


def test_lm_eval_chats(server: Process, tmp_path: Path) -> None:
    arguments = f"model=tiny,base_url={server.url}/chat/completions,num_concurrent=3,max_length=1024"
    samples = lm_eval(tmp_path, "local-chat-completions", arguments, "write", "--apply_chat_template")
    assert len(samples["write"]) == len(ROWS)
    for sample in samples["write"]:
        ((said,),) = sample["resps"]
        asked = [{"role": "user", "content": sample["doc"]["sentence"]}]
        with server.client() as client:
            own = client.chat.completions.create(model="tiny", messages=asked, max_tokens=12, temperature=0, stop=[";"])
        assert said == own.choices[0].message.content


def test_inspect_lets_the_model_call_a_tool(server: Process, tmp_path: Path) -> None:
    python = python_with("inspect_ai", "openai")
    (tmp_path / "task.py").write_text(INSPECT)
    assert "usage" in run([python, str(tmp_path / "task.py"), server.url, str(tmp_path / "logs")], tmp_path)
