"""The contract of embedders, and what each of them promises besides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured
from PIL import Image

from similarity.embedders import Embedder, EmbedderError, ModelUnavailable, get_embedder
from similarity.embedders.transformers import TransformersEmbedder
from similarity.preprocessing import Crop, limit_elongation
from tests.processes import environment, run_python
from tests.similarity.random_models import save_clip, save_dinov2


def gradient(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture with structure, so that two of them differ and preprocessing matters."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 5, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


PICTURES = [gradient(300, 400, 1), gradient(640, 480, 2), gradient(224, 224, 3), gradient(90, 700, 4)]


@pytest.fixture(scope="session")
def tiny_dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_dinov2(
        tmp_path_factory.mktemp("dinov2-tiny"), hidden_size=24, num_attention_heads=2, num_hidden_layers=2
    )


@pytest.fixture(params=["efficientnet-lite0", "colour", "transformers", "toy"])
def embedder(request: pytest.FixtureRequest, tiny_dinov2: Path) -> Embedder:
    return get_embedder(str(tiny_dinov2) if request.param == "transformers" else request.param)


def test_vectors_are_float32_of_length_one(embedder: Embedder) -> None:
    vectors = embedder.embed(PICTURES)
    assert vectors.dtype == np.float32
    assert len(vectors) == len(PICTURES)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_batch_gives_what_its_pictures_give_alone(embedder: Embedder) -> None:
    together = embedder.embed(PICTURES)
    alone = np.concatenate([embedder.embed([picture]) for picture in PICTURES])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_the_same_picture_gives_the_same_vector_and_stays_as_it_was(embedder: Embedder) -> None:
    picture = gradient(200, 300, 9)
    before = picture.tobytes()
    np.testing.assert_array_equal(embedder.embed([picture]), embedder.embed([picture]))
    assert picture.tobytes() == before


def test_the_identity_is_stable(embedder: Embedder) -> None:
    assert embedder.identity() == embedder.identity()
    assert len(embedder.identity().key) == 12


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_odd_pictures_are_no_trouble(embedder: Embedder, size: tuple[int, int]) -> None:
    assert np.isfinite(embedder.embed([Image.new("RGB", size, (10, 90, 30))])).all()


def test_a_very_long_picture_is_cut_to_its_middle() -> None:
    assert limit_elongation(Image.new("RGB", (10_000, 10))).size == (80, 10)
    assert limit_elongation(Image.new("RGB", (300, 400))).size == (300, 400)


@pytest.fixture(params=["torch", "openvino"])
def float32(request: pytest.FixtureRequest, settings: Any) -> None:
    """Each runtime in turn, in float32."""
    settings.SIMILARITY = {**settings.SIMILARITY, "RUNTIME": {"NAME": request.param, "PRECISION": "float32"}}


@pytest.mark.parametrize("pooling", ["mean", "cls", "cls+mean"])
def test_dinov2_agrees_with_a_plain_transformers_call(tiny_dinov2: Path, pooling: str, float32: None) -> None:
    assert_agrees(tiny_dinov2, pooling, PICTURES)


@pytest.mark.slow
def test_dinov2_small_agrees_with_a_plain_transformers_call(tmp_path: Path, float32: None) -> None:
    folder = save_dinov2(tmp_path, hidden_size=384, num_attention_heads=6, num_hidden_layers=12)
    assert_agrees(folder, "mean", PICTURES[:2])


def assert_agrees(folder: Path, pooling: str, pictures: list[Image.Image]) -> None:
    import torch
    from torch.nn.functional import normalize
    from transformers import AutoImageProcessor, AutoModel

    processor, network = AutoImageProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = network(**processor(images=pictures, return_tensors="pt")).last_hidden_state
    plain = {
        "mean": hidden.mean(1),
        "cls": hidden[:, 0],
        "cls+mean": torch.cat([normalize(hidden[:, 0]), normalize(hidden.mean(1))], 1),
    }[pooling]
    ours = TransformersEmbedder(str(folder), pooling=pooling).embed(pictures)
    cosines = (normalize(plain).numpy() * ours).sum(axis=1)
    assert cosines.min() >= 0.9999


@pytest.mark.parametrize("whole", [True, False])
def test_only_the_tower_that_sees_is_used_of_clip(tmp_path: Path, whole: bool, float32: None) -> None:
    """Of a folder of the whole CLIP, as the Hub has it, and of one of the vision tower alone."""
    import torch
    from torch.nn.functional import normalize
    from transformers import AutoImageProcessor, CLIPVisionModel

    folder = save_clip(tmp_path, whole=whole)
    processor, tower = AutoImageProcessor.from_pretrained(folder), CLIPVisionModel.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = tower(**processor(images=PICTURES, return_tensors="pt")).last_hidden_state
    ours = get_embedder(str(folder)).embed(PICTURES)
    assert ours.shape == (len(PICTURES), 16)
    assert (normalize(hidden.mean(1)).numpy() * ours).sum(axis=1).min() >= 0.9999


def test_another_pooling_or_other_weights_are_another_identity(tiny_dinov2: Path, tmp_path: Path) -> None:
    mean = TransformersEmbedder(str(tiny_dinov2)).identity()
    assert TransformersEmbedder(str(tiny_dinov2), pooling="cls").identity() != mean
    other = save_dinov2(tmp_path, hidden_size=24, num_attention_heads=2, num_hidden_layers=1)
    assert TransformersEmbedder(str(other)).identity().weights_sha256 != mean.weights_sha256


def test_a_model_out_of_reach_names_both_ways_out() -> None:
    with pytest.raises(ModelUnavailable, match=r"a folder.*efficientnet-lite0"):
        get_embedder("facebook/dinov2-small").identity()


def test_a_folder_that_is_none_names_both_ways_out(tmp_path: Path) -> None:
    for name in (str(tmp_path / "nowhere"), str(tmp_path)):
        with pytest.raises(ModelUnavailable, match=r"a folder.*efficientnet-lite0"):
            TransformersEmbedder(name).identity()


def test_pickled_weights_are_refused(tiny_dinov2: Path, tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((tiny_dinov2 / name).read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'echo no'\ntR.")
    with pytest.raises(ModelUnavailable, match="reads no pickles"):
        TransformersEmbedder(str(tmp_path)).identity()


def test_a_truncated_model_is_refused_in_words(tiny_dinov2: Path, tmp_path: Path) -> None:
    for path in tiny_dinov2.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[: 2000 if path.suffix == ".safetensors" else None])
    with pytest.raises(EmbedderError, match="cannot be loaded"):
        TransformersEmbedder(str(tmp_path)).embed(PICTURES[:1])


def test_an_embedder_that_cannot_be_had_names_the_setting(settings: Any) -> None:
    settings.SIMILARITY = {**settings.SIMILARITY, "EMBEDDERS": {"*": {"BACKEND": "nowhere.Embedder"}}}
    with pytest.raises(ImproperlyConfigured, match=r"SIMILARITY\['EMBEDDERS'\]\['\*'\]"):
        get_embedder("anything")


def test_asking_who_an_embedder_is_loads_no_heavy_library(tmp_path: Path) -> None:
    code = (
        "import django, sys; django.setup()\n"
        "from similarity.embedders import get_embedder\n"
        "get_embedder('efficientnet-lite0').identity(); get_embedder('colour').identity()\n"
        "assert not {'torch', 'transformers', 'faiss'} & set(sys.modules)"
    )
    run_python("-c", code, env=environment(tmp_path))


@pytest.mark.parametrize("size", [(300, 400), (641, 479), (224, 224), (1000, 130), (257, 900)])
def test_cropping_before_resizing_gives_the_pixels_of_cropping_after(size: tuple[int, int]) -> None:
    image = gradient(*size, seed=5)
    width, height = limit_elongation(image).size
    shorter = min(width, height)
    resized = limit_elongation(image).resize(
        (256 * width // shorter, 256 * height // shorter), Image.Resampling.BICUBIC
    )
    left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
    wanted = np.asarray(resized.crop((left, top, left + 224, top + 224)), dtype=int)
    found = Crop(256, 224, 224, (0.0,) * 3, (1.0,) * 3)(image).astype(int)
    difference = np.abs(found - wanted)  # of rounding alone
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.02
