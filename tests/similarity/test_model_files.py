"""A model's files: what is not what it was, or could run, is refused before anything is embedded; the site goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from catalog.models import Product
from similarity import embedders, serving
from similarity.building import embed_missing
from similarity.embedders import EmbedderError
from tests.similarity.conftest import AddProduct
from tests.similarity.random_models import save_dinov2


@pytest.fixture
def model(tmp_path: Path) -> Path:
    small = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1}
    return save_dinov2(tmp_path / "model", **small)


def new_process() -> None:
    """A process keeps the network that it has loaded."""
    embedders._embedders.clear()
    serving.reset_index()


def pickled(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")


def missing(model: Path) -> None:
    (model / "model.safetensors").unlink()


def altered(model: Path) -> None:
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-3] ^= 1
    (model / "model.safetensors").write_bytes(bytes(data))


def cut_off(model: Path) -> None:
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(data[:-100])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (pickled, "reads no pickles"),
        (missing, "has no weights as .safetensors"),
        (altered, "put the former files back"),
        (cut_off, "put the former files back"),
    ],
)
def test_a_harmed_model_is_refused_and_browsing_goes_on(
    model: Path,
    reds_and_blues: dict[str, Product],
    add_product: AddProduct,
    client: Client,
    harm: Callable[[Path], None],
    said: str,
) -> None:
    call_command("build_index", "--model", str(model), "--no-report")
    asked = "/api/v1/products/red/similar/"
    before = client.get(asked).json()["matches"]
    harm(model)
    new_process()
    add_product("young", (10, 20, 30))
    with pytest.raises(CommandError, match=said):
        call_command("build_index", "--model", str(model), "--no-report")
    with pytest.raises(EmbedderError, match=said):
        embed_missing()
    assert client.get(asked).json()["matches"] == before
    assert client.get("/products/young/").status_code == 200
    assert not (model.parent / "ran").exists()


def test_who_changed_a_model_on_purpose_says_so(model: Path, reds_and_blues: dict[str, Product]) -> None:
    call_command("build_index", "--model", str(model), "--no-report")
    first = serving.get_index().build.manifest
    altered(model)
    new_process()
    call_command("build_index", "--model", str(model), "--no-report", "--full")
    second = serving.get_index().build.manifest
    assert second.identities["style"].weights_sha256 != first.identities["style"].weights_sha256
    call_command("build_index", "--model", str(model), "--no-report")  # and from then on needs not
