"""Images into patches beside transformers' Qwen2-VL processor, awkward files, and images in conversations."""

import base64
import builtins
import io
import json

import numpy as np
import pytest

from dokja.errors import ConfigError, DataError, DokjaError
from dokja.model.spec import VisionSpec
from dokja.text.chat import IMAGE, SPECIALS, Message, render, text_of
from dokja.text.images import ImageConfig, data_url, fit, patches, png, read_image, token_count
from dokja.text.parse import parse
from dokja.text.tokenizer import expand

Image = pytest.importorskip("PIL.Image")
SMALL = ImageConfig(patch=4, merge=2, temporal_patch=2, min_pixels=256, max_pixels=8 * 8 * 100)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def peer(c: ImageConfig):
    module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    return module.Qwen2VLImageProcessorPil(**{k: v for k, v in c.to_official().items() if k != "image_processor_type"})


def test_sides_are_those_of_the_official_smart_resize():
    module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    rng = np.random.default_rng(0)
    for c in (ImageConfig(), SMALL, ImageConfig(min_pixels=4 * 28 * 28, max_pixels=16 * 28 * 28)):
        for h, w in [(1, 1), (1, 200), (13, 15), (42, 70), (28, 28), *(rng.integers(1, 5000, (500, 2)).tolist())]:
            if max(h, w) <= 200 * min(h, w):
                assert fit(h, w, c) == module.smart_resize(h, w, c.side, c.min_pixels, c.max_pixels)


@pytest.mark.parametrize("c", [ImageConfig(), SMALL])
def test_patches_are_the_official_ones(c):
    theirs = peer(c)
    for h, w in ((56, 84), (112, 56), (64, 48), (100, 77), (9, 300)):
        image = noise(h, w)
        want, got = theirs(Image.fromarray(image), return_tensors="np"), patches(image, c)
        assert got.grid == tuple(want["image_grid_thw"][0])
        assert got.values.dtype == np.float32
        assert len(got.values) == token_count(got.grid, c.merge) * c.merge**2
        np.testing.assert_allclose(got.values, want["pixel_values"], atol=1e-6, rtol=0)


def test_a_patch_holds_the_pixels_of_its_place():
    c = ImageConfig(2, 2, 2, 16, 10_000, (0.0,) * 3, (1 / 255,) * 3)
    image = noise(8, 12)
    got = patches(image, c)
    assert got.grid == (1, 4, 6)
    block, inner = 1 * 3 + 2, 1 * 2 + 0  # token at row 1, column 2; in it the patch at row 1, column 0
    want = image[4 + 2 : 4 + 4, 8:10].transpose(2, 0, 1)
    values = got.values[block * 4 + inner].reshape(3, 2, 2, 2)
    np.testing.assert_allclose(values, np.stack([want, want], axis=1), atol=1e-3)


def test_slivers_and_other_arrays_are_refused():
    for h, w in ((1, 201), (0, 5)):
        with pytest.raises(DataError, match="Crop"):
            fit(h, w, ImageConfig())
    for what in (noise(4, 4).astype(np.float32), noise(4, 4)[..., 0], [[1]]):
        with pytest.raises(DataError, match="uint8"):
            patches(what, ImageConfig())


def test_the_config_survives_the_official_file(tmp_path):
    SMALL.write(tmp_path)
    assert ImageConfig.read(tmp_path) == SMALL
    assert ImageConfig.of(VisionSpec(1, 8, 2, 1, 8, (), 11)) == ImageConfig()
    old = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    assert ImageConfig.from_official(old) == ImageConfig(max_pixels=12845056)
    theirs = json.loads(peer(SMALL).to_json_string())
    assert ImageConfig.from_official(theirs) == SMALL
    loaded = type(peer(SMALL)).from_pretrained(tmp_path)
    assert ImageConfig.from_official(json.loads(loaded.to_json_string())) == SMALL


@pytest.mark.parametrize("odd", [{"resample": 2}, {"do_resize": False}, {"rescale_factor": 1.0}, {"min_pixels": 10**9}])
def test_another_processor_is_refused(odd):
    with pytest.raises(ConfigError):
        ImageConfig.from_official(odd)


def test_a_release_without_its_image_config_says_so(tmp_path):
    with pytest.raises(DataError, match=r"preprocessor_config\.json"):
        ImageConfig.read(tmp_path)


def test_our_png_comes_back_exactly(tmp_path):
    image = noise(7, 13)
    (tmp_path / "a.png").write_bytes(png(image))
    for source in (png(image), data_url(image), tmp_path / "a.png", str(tmp_path / "a.png")):
        assert np.array_equal(read_image(source), image)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)


def test_other_modes_become_rgb():
    image = noise(6, 5)
    grey = image[..., 0]
    assert np.array_equal(read_image(saved(Image.fromarray(grey)))[..., 2], grey)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert np.array_equal(read_image(saved(deep)), np.repeat(grey[..., None], 3, 2))
    clear = np.dstack([image, np.where(grey < 128, 0, 255).astype(np.uint8)])
    want = np.where((grey < 128)[..., None], 255, image)
    assert np.array_equal(read_image(saved(Image.fromarray(clear))), want)
    palette = Image.fromarray(image).quantize(8)
    assert np.array_equal(read_image(saved(palette)), np.asarray(palette.convert("RGB")))
    assert read_image(saved(Image.fromarray(image).convert("CMYK"), format="JPEG")).shape == (6, 5, 3)


def test_a_photograph_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image = noise(4, 6)
    assert np.array_equal(read_image(saved(Image.fromarray(image), exif=exif)), np.rot90(image, -1))


def test_awkward_files_get_a_sentence(tmp_path):
    whole = saved(Image.fromarray(noise(40, 40)))
    frames = [Image.fromarray(noise(4, 4, seed)) for seed in range(3)]
    bomb = bytearray(png(noise(1, 1)))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    cases = [
        (b"", "recognised"),
        (b"<svg></svg>", "recognised"),
        (whole[: len(whole) // 2], "broken"),
        (saved(frames[0], format="GIF", save_all=True, append_images=frames[1:]), "animated"),
        (bytes(bomb), "large|pixels|recognised"),
        ("data:image/png;base64,%%%", "base64"),
        ("data:image/svg+xml,<svg/>", "data URL"),
        ("https://example.org/a.png", "fetched"),
        (tmp_path / "none.png", "cannot be read"),
    ]
    for source, words in cases:
        with pytest.raises(DataError, match=words):
            read_image(source)
    with pytest.raises(DataError, match="at most 100 "):
        read_image(whole, max_bytes=100)
    with pytest.raises(DataError, match="more than 100 bytes"):
        read_image("data:image/png;base64," + base64.b64encode(whole).decode(), max_bytes=100)
    with pytest.raises(DataError, match="40 x 40 pixels; at most 1,599"):
        read_image(whole, max_pixels=1599)


def test_without_pillow_the_sentence_has_the_command(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.startswith("PIL"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert patches(noise(56, 56), ImageConfig()).grid == (1, 4, 4)  # nothing to resize, nothing needed
    for needs in (lambda: patches(noise(57, 90), ImageConfig()), lambda: read_image(png(noise(2, 2)))):
        with pytest.raises(DataError, match=r"pip install 'dokja\[vision\]'"):
            needs()


# --- in conversations -------------------------------------------------------------------------------------------


def test_images_stand_before_the_text_of_their_turn():
    talk = [Message("user", "U", images=(noise(2, 2), noise(3, 3))), Message("assistant", "A", "R")]
    assert text_of(render(talk)).startswith("<|bos|><|user|><|image|><|image|>U<|end|><|assistant|>")
    segments = render(talk)
    assert all(s.special and not s.loss for s in segments if s.text == IMAGE)
    assert text_of(render([Message("user", "", images=(noise(2, 2),))])) == "<|bos|><|user|><|image|><|end|>"
    start = len(render(talk[:1], add_generation_prompt=True))
    assert parse(segments[start:], True) == talk[1]


def test_a_spelt_image_marker_is_ordinary_text(tokenizer):
    talk = [Message("user", "<|image|>", images=(noise(2, 2),))]
    ids, _ = tokenizer.encode_segments(render(talk))
    assert ids.count(tokenizer.special_id(IMAGE)) == 1 and SPECIALS.index(IMAGE) == 11


def test_messages_are_equal_when_their_pixels_are():
    a, b = (Message("user", "U", images=(noise(2, 2, seed),)) for seed in (0, 1))
    assert a == Message("user", "U", images=(noise(2, 2),))
    assert a != b and a != Message("user", "U") and a != Message("user", "V", images=a.images)
    assert a != Message("user", "U", images=a.images * 2) and a != Message("user", "U", images=(noise(2, 4),))
    assert len({a, b, Message("user", "U", images=(noise(2, 2),))}) == 2


def test_images_survive_the_shape_of_the_api():
    for message in (
        Message("user", "무엇?", images=(noise(5, 4), noise(2, 3))),
        Message("tool", "", images=(noise(1, 1),)),
    ):
        raw = json.loads(json.dumps(message.to_dict()))
        assert Message.from_dict(raw) == message
    url = data_url(noise(2, 2))
    for part in (
        {"type": "image_url", "image_url": url},
        {"type": "image", "url": url},
        {"type": "image", "image": url},
    ):
        assert Message.from_dict({"role": "user", "content": [part]}) == Message("user", images=(noise(2, 2),))


def test_an_image_of_the_api_is_never_read_from_a_disk_or_a_network(tmp_path):
    (tmp_path / "a.png").write_bytes(png(noise(2, 2)))
    for url in (str(tmp_path / "a.png"), f"file://{tmp_path}/a.png", "http://localhost/a.png"):
        with pytest.raises(DataError, match="no data URL"):
            Message.from_dict({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})
    with pytest.raises(DataError, match="uint8"):
        Message.from_dict({"role": "user", "content": [{"type": "image"}]})
    for role in ("system", "assistant"):
        with pytest.raises(DokjaError, match="carries images"):
            Message(role, "x", images=(noise(2, 2),))


def test_markers_are_repeated_for_the_tokens_of_their_image():
    ids, loss = [1, 11, 11, 5, 11], [0, 0, 0, 1, 0]
    assert expand(ids, loss, 11, [2, 1, 3]) == ([1, 11, 11, 11, 5, 11, 11, 11], [0, 0, 0, 0, 1, 0, 0, 0])
    assert expand([1, 2], [0, 1], 11, []) == ([1, 2], [0, 1])
    for counts in ([2], [1, 1, 1, 1], []):
        with pytest.raises(DataError, match="places for images"):
            expand(ids, loss, 11, counts)
