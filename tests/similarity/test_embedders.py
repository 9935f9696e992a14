"""The contract of embedders, and what each of them promises besides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured
from PIL import Image, ImageDraw

from similarity.embedders import Embedder, EmbedderError, ModelUnavailable, get_embedder
from similarity.embedders.transformers import TransformersEmbedder
from similarity.preprocessing import Crop, limit_elongation
from similarity.regions import emptiness, heat_maps
from similarity.runtimes.choice import choose_runtime
from similarity.vectors import unit
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


# --- regions -----------------------------------------------------------------------------------


def test_efficientnets_regions_are_its_last_feature_map() -> None:
    regions = get_embedder("efficientnet-lite0").regions(PICTURES[0])
    assert regions.vectors.shape == (7, 7, 1280)
    assert regions.vectors.dtype == np.float32
    assert regions.box == pytest.approx((1 / 16, 0.5 - 7 / 16 * 3 / 4, 15 / 16, 0.5 + 7 / 16 * 3 / 4), abs=2e-3)


def test_the_mean_of_the_regions_is_the_vector(float32: None) -> None:
    embedder = get_embedder("efficientnet-lite0")
    for image in PICTURES:
        pooled = unit(embedder.regions(image).vectors.mean((0, 1))[np.newaxis])
        assert pooled[0] @ embedder.embed([image])[0] > 0.999


def test_a_transformers_regions_are_its_patches(tiny_dinov2: Path, float32: None) -> None:
    import torch
    from transformers import AutoImageProcessor, AutoModel

    regions = TransformersEmbedder(str(tiny_dinov2)).regions(PICTURES[1])
    pixels = AutoImageProcessor.from_pretrained(tiny_dinov2)(images=PICTURES[1], return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(tiny_dinov2).eval()(**pixels).last_hidden_state
    assert regions.vectors.shape == (16, 16, 24)
    np.testing.assert_allclose(regions.vectors.reshape(256, 24), hidden[0, 1:].numpy(), atol=2e-2)


def test_registers_are_no_regions(tmp_path: Path) -> None:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    save_dinov2(tmp_path, hidden_size=24, num_attention_heads=2, num_hidden_layers=1)
    small = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1, "num_register_tokens": 4}
    Dinov2WithRegistersModel(Dinov2WithRegistersConfig(image_size=518, patch_size=14, **small)).save_pretrained(
        tmp_path
    )
    assert get_embedder(str(tmp_path)).regions(PICTURES[0]).vectors.shape == (16, 16, 24)


def test_the_picture_tower_of_clip_has_regions_too(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**small, "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config={**small, "vocab_size": 99}, vision_config=vision)).save_pretrained(tmp_path)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path)
    assert get_embedder(str(tmp_path)).regions(PICTURES[0]).vectors.shape == (2, 2, 16)


def test_a_picture_that_is_squeezed_into_a_square_is_seen_whole(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTModel(ViTConfig(**small, image_size=48, patch_size=16)).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 48, "width": 48}).save_pretrained(tmp_path)
    regions = get_embedder(str(tmp_path)).regions(PICTURES[0])
    assert regions.vectors.shape == (3, 3, 16)
    assert regions.box == (0, 0, 1, 1)


def test_a_network_that_merges_its_patches_is_refused_in_words(tmp_path: Path) -> None:
    from transformers import SwinConfig, SwinModel, ViTImageProcessorPil

    SwinModel(
        SwinConfig(image_size=64, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)
    ).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    with pytest.raises(EmbedderError, match="does not tell the regions"):
        get_embedder(str(tmp_path)).regions(PICTURES[0])


def test_colours_have_no_regions() -> None:
    with pytest.raises(EmbedderError, match="colour does not tell the regions"):
        get_embedder("colour").regions(PICTURES[0])


@pytest.fixture(params=["efficientnet-lite0", "transformers"])
def network(request: pytest.FixtureRequest, tiny_dinov2: Path) -> Embedder:
    return get_embedder(str(tiny_dinov2) if request.param == "transformers" else request.param)


def test_what_two_pictures_share_is_found_where_it_lies_in_each(network: Embedder) -> None:
    """A striped square on white, at the top left of one picture and at the bottom right of the other."""
    images = []
    for left, top in ((40, 40), (150, 150)):
        image = Image.new("RGB", (256, 256), (255, 255, 255))
        for at in range(0, 64, 8):
            ImageDraw.Draw(image).rectangle((left, top + at, left + 63, top + at + 3), (180, 20, 60))
        images.append(image)
    regions = [network.regions(image) for image in images]
    empty = [emptiness(image, each) for image, each in zip(images, regions, strict=True)]
    for heats, early in zip(heat_maps(regions[0].vectors, regions[1].vectors, *empty), (True, False), strict=True):
        side = len(heats)
        centre = (np.indices(heats.shape) * heats).sum((1, 2)) / heats.sum()
        assert ((centre < 0.45 * side) if early else (centre > 0.5 * side)).all()
        corner = heats[-side // 3 :, -side // 3 :] if early else heats[: side // 3, : side // 3]
        assert corner.max() == 0


def test_regions_need_no_torch_the_second_time(tmp_path: Path) -> None:
    code = (
        "import sys, django; django.setup()\n"
        "from PIL import Image\n"
        "from similarity.embedders import get_embedder\n"
        "get_embedder('efficientnet-lite0').regions(Image.new('RGB', (300, 400), (90, 20, 20)))\n"
        "print('torch' in sys.modules)"
    )
    runs = [run_python("-c", code, env=environment(tmp_path, VITRINE_RUNTIME="openvino")) for _ in range(2)]
    assert [run.stdout.strip() for run in runs] == ["True", "False"]


def test_int8_explains_in_float(settings: Any) -> None:
    settings.SIMILARITY = {**settings.SIMILARITY, "RUNTIME": {"NAME": "openvino", "PRECISION": "int8"}}
    assert choose_runtime().precision == "int8"
    assert get_embedder("efficientnet-lite0").regions(PICTURES[0]).vectors.shape == (7, 7, 1280)
