"""Images as data URLs, through `dokja serve`, to a small random model that sees: it answers what its engine answers."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image
from test_serve_command import Process, checkpoint, small_tokenizer

from dokja.model.decoder import Decoder
from dokja.model.families import export
from dokja.model.spec import ModelSpec, VisionSpec
from dokja.text.chat import IMAGE, Message
from dokja.text.images import ImageConfig, read_image


def seeing(folder: Path) -> Path:
    """A checkpoint with a vision tower, every matrix random and large enough for what is seen to matter."""
    import torch

    tokenizer = small_tokenizer()
    vision = VisionSpec(
        layers=2, width=32, heads=2, kv_heads=1, ffn=32, full=(1,), image_token=tokenizer.special_id(IMAGE), patch=4,
        window=16,
    )  # fmt: skip
    spec = ModelSpec(tokenizer.vocab_size, 32, 2, 2, 1, 16, 32, 1024, window=64, vision=vision)
    model = Decoder(spec).init_weights(0)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.normal_(0.0, 0.3, generator=random)
    export(spec, dict(model.named_parameters()), folder, {"bos": 1, "eos": 2, "pad": 0})
    tokenizer.save(folder)
    ImageConfig.of(vision, min_pixels=64, max_pixels=64 * 64).write(folder)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(f"tiny={seeing(tmp_path_factory.mktemp('seeing'))}", "--slots", "4")
    yield process
    assert process.end() == 0


def url(seed: int, size: tuple[int, int] = (24, 40), kind: str = "png") -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def content(*parts: str) -> list[dict[str, Any]]:
    """Texts, and images by their URLs."""
    return [
        {"type": "image_url", "image_url": {"url": part}} if ":" in part else {"type": "text", "text": part}
        for part in parts
    ]


def ask(server: Process, *parts: str, **more: Any) -> Any:
    body = {"model": "tiny", "max_tokens": 24, "temperature": 0, "logprobs": True, **more}
    with server.client() as client:
        got = client.chat.completions.create(
            messages=[{"role": "user", "content": content(*parts)}],
            extra_body={"chat_template_kwargs": {"enable_thinking": False}}, **body,
        )  # fmt: skip
        return list(got) if more.get("stream") else got


def test_it_says_what_its_engine_says(server: Process) -> None:
    from dokja.engine.load import load_engine
    from dokja.serve.asking import Ask, plan
    from dokja.serve.facts import Facts

    engine, tokenizer, info = load_engine(server.folder)
    facts = Facts(tokenizer, info["style"], info["spec"]["context"], info["sampling"], info["images"])
    told = []
    for images in ((url(0),), (url(1),), (url(0), url(1, (40, 24))), (url(0, kind="webp"),)):
        parts = [{"type": "text", "text": "three plus"}, *({"type": "image", "image": read_image(i)} for i in images)]
        asked = Ask(
            [Message.from_dict({"role": "user", "content": parts})],
            {"temperature": 0.0},
            thinking=False,
            max_tokens=24,
            seed=0,
        )
        request = plan(asked, facts, "r").request
        (wanted,) = engine.complete([request])
        got = ask(server, "three plus", *images)
        assert got.usage.prompt_tokens == len(request.prompt)
        said = [t.logprob for t in got.choices[0].logprobs.content]
        assert said[:20] == pytest.approx(wanted.logprobs[: len(said)][:20], abs=1e-4)
        told.append(tuple(said))
    assert len(set(told)) == 4, "what is shown changes the answer"


def test_responses_and_streams_see_too(server: Process) -> None:
    whole = ask(server, "three", url(2))
    parts = [c.choices[0].delta.content or "" for c in ask(server, "three", url(2), stream=True)]
    assert "".join(parts) == whole.choices[0].message.content
    shown = [{"type": "input_text", "text": "three"}, {"type": "input_image", "image_url": url(2), "detail": "auto"}]
    with server.client() as client:
        got = client.responses.create(
            model="tiny", input=[{"role": "user", "content": shown}], max_output_tokens=24, temperature=0,
            extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        )  # fmt: skip
    assert got.output_text == whole.choices[0].message.content
    assert got.usage.input_tokens == whole.usage.prompt_tokens


@pytest.mark.parametrize(
    "image, why",
    [
        ("https://example.com/a.png", "data URL"),
        ("file:///etc/passwd", "data URL"),
        ("data:image/png;base64,!!!!", "image"),
        ("data:image/png;base64," + base64.b64encode(b"no image").decode(), "image"),
        (url(0)[:-400], "image"),
    ],
)
def test_what_is_no_image_is_refused_with_its_place(server: Process, image: str, why: str) -> None:
    with pytest.raises(openai.BadRequestError, match=why) as refused:
        ask(server, "three", image)
    assert refused.value.param == "messages[0]"


def test_too_many_images_are_refused(server: Process) -> None:
    with pytest.raises(openai.BadRequestError, match="may hold 16 images"):
        ask(server, *[url(0, (8, 8))] * 17)


def test_a_model_that_cannot_see_says_so(tmp_path: Path) -> None:
    blind = Process(f"tiny={checkpoint(tmp_path)}")
    try:
        with pytest.raises(openai.BadRequestError, match=r"image|vision|see"):
            ask(blind, "three", url(0))
    finally:
        blind.end()
