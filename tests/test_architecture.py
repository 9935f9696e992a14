"""The arrows between the parts, and what may not be installed or said."""

from __future__ import annotations

import ast
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.processes import ROOT

# What → the only files that may import it.
GATES = {
    "torch": ["similarity/embedders/", "similarity/runtimes/"],
    "openvino": ["similarity/runtimes/openvino.py", "similarity/runtimes/bfloat16.py"],
    "nncf": ["similarity/runtimes/openvino.py"],
    "transformers": ["similarity/embedders/"],
    "efficientnet_lite_pytorch": ["similarity/embedders/"],
    "faiss": ["similarity/indexes/faiss.py"],
    "openTSNE": ["similarity/maps/projection.py"],
    "scipy": ["similarity/maps/projection.py"],
    "sklearn": ["similarity/maps/projection.py"],
    "catalog.models": ["similarity/products.py", "catalog/"],
}


def imports_of(path: Path) -> set[str]:
    """Every module that the file imports, at its top or within a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("module", GATES)
def test_what_is_heavy_or_foreign_comes_in_through_its_gate_only(module: str) -> None:
    sources = [path for part in ("catalog", "similarity", "config") for path in (ROOT / part).rglob("*.py")]
    for path in sources:
        name = path.relative_to(ROOT).as_posix()
        if not any(name.startswith(gate) for gate in GATES[module]):
            trespassers = {found for found in imports_of(path) if f"{found}.".startswith(f"{module}.")}
            assert not trespassers, f"{name} imports {trespassers}"


def test_only_one_module_of_similarity_asks_the_product_model() -> None:
    for path in (ROOT / "similarity").rglob("*.py"):
        if path.name != "products.py":
            assert "Product.objects" not in path.read_text(), path


def test_the_gates_exist() -> None:
    for gates in GATES.values():
        assert all((ROOT / gate).exists() for gate in gates)


def test_no_package_that_replaces_torch_is_installed() -> None:
    installed = {(distribution.metadata["Name"] or "").lower() for distribution in distributions()}
    assert not installed & {"timm", "torchvision", "torchaudio", "triton"}
    assert not {name for name in installed if name.startswith("nvidia-")}


def test_every_requirement_is_pinned() -> None:
    for file in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / file).read_text().splitlines():
            if line and not line.startswith(("#", "-r ")):
                assert "==" in line, f"{file}: {line}"
    assert "torch==2.13.0" in (ROOT / "requirements.txt").read_text().splitlines()
