"""A catalogue of a few plain pictures and a model whose answers can be worked out on paper."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from PIL import Image

from catalog import images
from catalog.models import Product
from similarity import pipeline, products, serving
from similarity.embedders import get_embedder
from similarity.spaces import Space
from tests.engines import VECTORS, need_milvus, quick_postgres, vectors_at
from tests.milvus import Milvus, milvus
from tests.postgres import Postgres

RGB = tuple[int, int, int]
AddProduct = Callable[..., Product]


def png(colour: RGB, size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def give_picture(product: Product, data: bytes) -> None:
    images.accept([images.Acceptance(product.pk, images.store(images.verify(data)), "test")])
    product.refresh_from_db()


@pytest.fixture(autouse=True)
def toy_model(settings: Any, data_dir: Any) -> Iterator[None]:
    """`toy` is the default model, and no process-wide state outlives a test."""
    settings.SIMILARITY = {
        **settings.SIMILARITY,
        "MODEL": "toy",
        "EMBEDDERS": {
            **settings.SIMILARITY["EMBEDDERS"],
            "toy": {"BACKEND": "tests.similarity.toy.MeanColourEmbedder"},
        },
    }
    serving.reset_index()
    yield
    serving.reset_index()


@pytest.fixture
def add_product(db: None) -> AddProduct:
    """Adds a product with a plain picture of that colour, or with none."""

    def add(product_id: str, picture: RGB | None = None, /, **fields: Any) -> Product:
        product = Product.objects.create(product_id=product_id, **{"title": f"Product {product_id}", **fields})
        if picture is not None:
            give_picture(product, png(picture))
        return product

    return add


@pytest.fixture
def reds_and_blues(add_product: AddProduct) -> dict[str, Product]:
    """Three reds, each further from the first, and a blue."""
    return {
        name: add_product(name, colour)
        for name, colour in {
            "red": (200, 0, 0),
            "rose": (200, 60, 60),
            "plum": (150, 30, 110),
            "blue": (0, 0, 200),
        }.items()
    }


@pytest.fixture(scope="session")
def vector_server() -> Iterator[Postgres]:
    """A PostgreSQL with pgvector that looks may lie in."""
    with quick_postgres() as server:
        yield server


@pytest.fixture
def in_postgres(db: None, vector_server: Postgres, django_db_blocker: Any, settings: Any) -> Iterator[None]:
    """Looks that are built with pgvector lie there."""
    with django_db_blocker.unblock(), vectors_at(vector_server.url):
        settings.SIMILARITY = {**settings.SIMILARITY, "INDEX": {**settings.SIMILARITY["INDEX"], "DATABASE": VECTORS}}
        yield


@pytest.fixture(scope="session")
def milvus_server() -> Iterator[Milvus]:
    need_milvus()
    with milvus() as server:
        yield server


@pytest.fixture
def in_milvus(milvus_server: Milvus, settings: Any) -> None:
    """Looks that are built with Milvus lie there."""
    index = {**settings.SIMILARITY["INDEX"], "MILVUS": {"URI": milvus_server.uri, "TOKEN": ""}}
    settings.SIMILARITY = {**settings.SIMILARITY, "INDEX": index}


def embed_without_building() -> None:
    """What a killed `build_index` leaves: vectors in the spaces, and the former build."""
    embedders = {"style": get_embedder("toy"), "colour": get_embedder("colour")}
    root = Path(django_settings.SIMILARITY["SPACES_DIR"])
    spaces = {part: Space(root, embedder.identity()) for part, embedder in embedders.items()}
    work = pipeline.plan_work(products.current_pictures(), spaces)
    with spaces["style"].writing() as style, spaces["colour"].writing() as colour:
        assert sum(batch.embedded for batch in pipeline.embed(work, embedders, {"style": style, "colour": colour}))
