"""Fitting: from a catalogue's vectors and labels to the transforms of its looks. Pure NumPy.

A look has three parts:

- `style`: the network's vectors in their principal directions;
- `kind`: a linear projection of them in which products of one kind lie together and others apart, learned from the
  catalogue's own labels. It is adopted only where it finds more of the right kind among products it was not fitted on;
- `colour`: as the colour embedder gives it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similarity.looks import Layout, Part
from similarity.ranking import label_codes, leave_one_out, shares_right
from similarity.vectors import Matrix

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

MAX_LOOK_DIMENSION = 384
KIND_DIMENSION = 64
"""Most directions of `kind`."""
PRINCIPAL_DIMENSION = 384
"""Principal directions that `kind` is learned in: in the others, few labels cannot tell kind from noise."""
KINDS = (("product_type", "gender"), ("product_type",), ("sub_category",), ("category",))
"""The labels that may say of what kind a product is; the first that a catalogue has."""
TOO_FEW = "too few products have a label that says of what kind they are"
LEAST_LABELLED = 40
"""Fewer labelled products teach nothing."""
LEAST_CENTRED = 64
"""Of fewer vectors, the mean says more of them than of the catalogue that will be."""
JUDGED = 4000
"""Most products that an adapter is judged by."""
SAMPLE = 50_000
"""Most vectors that transforms are fitted on."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What looks are fitted on, line by line.

    `vectors`, by space, (n, dim) float32, zeros where missing; `labels`, by name, n strings, "" where there is none;
    `groups` (n,): products of one group show the same picture, and never help to find each other.
    """

    vectors: Mapping[str, Matrix]
    labels: Mapping[str, Sequence[str]]
    groups: Codes

    def __len__(self) -> int:
        return len(self.groups)

    def take(self, at: NDArray[np.int64]) -> Catalogue:
        """The lines at these positions."""
        return Catalogue(
            {name: vectors[at] for name, vectors in self.vectors.items()},
            {name: [values[i] for i in at.tolist()] for name, values in self.labels.items()},
            self.groups[at],
        )

    def halves(self, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of two random halves; products of one group lie in the same."""
        names = np.unique(self.groups)
        first = np.random.default_rng(seed).permutation(names)[: len(names) // 2]
        inside = np.isin(self.groups, first)
        return np.flatnonzero(inside), np.flatnonzero(~inside)


@dataclass(frozen=True)
class Adapter:
    """Whether `kind` became a part, and why.

    `precision` and `without` are precision@10 by these labels with and without it, on products it was not fitted on;
    `margin` is what it had to gain: two standard errors of the difference.
    """

    adopted: bool
    reason: str
    labels: tuple[str, ...] = ()
    classes: int = 0
    judged: int = 0
    precision: float | None = None
    without: float | None = None
    margin: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def labels_sha256(labels: Mapping[str, Sequence[str]]) -> str:
    """Stands for the labels of products in their order."""
    digest = hashlib.sha256()
    for name in sorted(labels):
        digest.update("\x1f".join([name, *labels[name]]).encode() + b"\x1e")
    return digest.hexdigest()


def fit_looks(catalogue: Catalogue, weights: Mapping[str, float]) -> tuple[Layout, Adapter]:
    """The layout for this catalogue, and what became of its adapter. `weights` are the parts' in the default mix."""
    principal = principal_directions(catalogue.vectors["style"])
    labels = next((names for names in KINDS if principal and _teaches(catalogue, names)), None)
    adapter = _judge(catalogue, weights, principal, labels) if labels else Adapter(False, TOO_FEW)
    return fit_layout(catalogue, weights, principal, labels if adapter.adopted else None), adapter


def fit_layout(
    catalogue: Catalogue, weights: Mapping[str, float], principal: Principal | None, kind: Sequence[str] | None = None
) -> Layout:
    """The transforms of all parts, with `kind` learned from these labels; without it, `style` takes its weight.

    `principal` are the directions of the network's vectors.
    """
    network, colour = catalogue.vectors["style"], catalogue.vectors["colour"]
    colour_part = Part("colour", weights["colour"], colour.shape[1] or 1, "colour")
    parts = [colour_part]
    room = MAX_LOOK_DIMENSION - colour_part.dimension
    style_weight = weights["style"]
    if kind:
        learned = _kind_part(network, label_codes(catalogue.labels, kind), principal, weights["kind"])
        parts.insert(0, learned)
        room -= learned.dimension
    else:
        style_weight += weights["kind"]
    style = Part("style", style_weight, network.shape[1] or 1, "style")
    if principal is not None and network.shape[1] > room:
        style = replace(style, dimension=room, mean=principal.mean, basis=_float32(principal.directions[:, :room]))
    return Layout((style, *parts))


# --- transforms ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Principal:
    """`mean` (dim,), or None where too few vectors say what it is; `directions` (dim, dim), the widest spread first."""

    mean: NDArray[np.float32] | None
    directions: Floats


def principal_directions(vectors: Matrix) -> Principal | None:
    """Of the vectors (n, dim) that are there (not zeros); None where none is.

    From the eigenvectors of the (dim, dim) scatter matrix, which are a whole basis even where there are fewer vectors
    than directions: a picture that comes later still has somewhere to go.
    """
    present = vectors[vectors.any(axis=1)]
    if not len(present):
        return None
    mean = _float32(present.mean(axis=0, dtype=np.float64)) if len(present) >= LEAST_CENTRED else None
    scatter = np.zeros((vectors.shape[1],) * 2, dtype=np.float64)
    for chunk in _chunks(present):
        centred = chunk if mean is None else chunk - mean
        scatter += centred.T @ centred
    _, directions = np.linalg.eigh(scatter)
    return Principal(mean, directions[:, ::-1])


def _kind_part(network: Matrix, codes: Codes, principal: Principal | None, weight: float) -> Part:
    """The directions in which kinds differ most, as one affine map from the space itself."""
    assert principal is not None
    directions = principal.directions[:, :PRINCIPAL_DIMENSION]
    taught = (codes >= 0) & network.any(axis=1)
    mean = np.zeros(network.shape[1]) if principal.mean is None else principal.mean.astype(np.float64)
    reduced = (network[taught] - mean) @ directions
    centre, discriminants = linear_discriminants(reduced, codes[taught], KIND_DIMENSION)
    # (x - mean)·D - centre = (x - (mean + D·centre))·D, because D's columns are orthonormal.
    return Part(
        "kind",
        weight,
        discriminants.shape[1],
        "style",
        mean=_float32(mean + directions @ centre),
        basis=_float32(directions @ discriminants),
    )


def linear_discriminants(vectors: Floats, codes: Codes, most: int) -> tuple[Floats, Floats]:
    """(centre (dim,), directions (dim, k)) in which classes differ most compared with how they vary within.

    Fisher's linear discriminants (Fisher, 1936; Rao, 1948) with the covariance within classes shrunk towards a sphere
    by Ledoit and Wolf's estimate ("A well-conditioned estimator for large-dimensional covariance matrices", 2004).
    Variation within classes is a sphere after the projection. Classes of one member say where a class is, but not how
    it varies. `codes` (n,) from 0, at least two classes.
    """
    _, codes, counts = np.unique(codes, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(means, codes, vectors)
    means /= counts[:, np.newaxis]
    within = vectors - means[codes]
    covariance = shrunk_covariance(within, len(vectors) - len(counts))
    centre = vectors.mean(axis=0)
    between = (means - centre) * np.sqrt(counts / len(vectors))[:, np.newaxis]
    root = np.linalg.cholesky(covariance)
    left, spread, _ = np.linalg.svd(np.linalg.solve(root, between.T), full_matrices=False)
    useful = min(most, int((spread > 1e-9 * max(spread[0], 1e-300)).sum()))
    return centre, np.linalg.solve(root.T, left[:, :useful])


def shrunk_covariance(deviations: Floats, freedom: int) -> Floats:
    """The covariance (dim, dim) of deviations (n, dim) from known centres, drawn towards a sphere where n is small."""
    n, dimension = deviations.shape
    sample = deviations.T @ deviations / max(1, freedom)
    size = np.trace(sample) / dimension
    if size <= 0:  # no class varies: nothing to make alike
        return np.eye(dimension)
    sphere = size * np.eye(dimension)
    distance = ((sample - sphere) ** 2).sum() / dimension
    squares = (deviations**2).sum(axis=1)
    noise = ((squares**2).sum() / n**2 - (sample**2).sum() / n) / dimension
    shrinkage = 1.0 if distance <= 0 else float(np.clip(noise / distance, 1e-3, 1))
    shrunk: Floats = (1 - shrinkage) * sample + shrinkage * sphere
    return shrunk


# --- is it any good? ----------------------------------------------------------------------------


def _teaches(catalogue: Catalogue, names: Sequence[str]) -> bool:
    """Whether enough products have these labels, in at least two classes of at least two pictures each."""
    if any(name not in catalogue.labels for name in names):
        return False
    codes = label_codes(catalogue.labels, names)
    labelled = codes >= 0
    pairs = np.unique(np.stack([codes[labelled], catalogue.groups[labelled]]), axis=1)
    return bool(pairs.shape[1] >= LEAST_LABELLED and (np.bincount(pairs[0]) >= 2).sum() >= 2)


def _judge(
    catalogue: Catalogue, weights: Mapping[str, float], principal: Principal | None, labels: tuple[str, ...]
) -> Adapter:
    """Fit `kind` on one half and look at the other, and the other way round.

    The principal directions are the whole catalogue's, with and without `kind`: they know no labels.
    """
    if len(catalogue) > JUDGED:
        at = np.sort(np.random.default_rng(1).choice(len(catalogue), JUDGED, replace=False))
        catalogue = catalogue.take(at)
    halves = catalogue.halves(seed=1)
    gains, with_kind, without = [], [], []
    for fitted_on, judged_on in (halves, halves[::-1]):
        fold, judged = catalogue.take(fitted_on), catalogue.take(judged_on)
        if not _teaches(fold, labels):
            return Adapter(False, TOO_FEW, labels)
        pair = [_shares(fit_layout(fold, weights, principal, kind), judged, labels) for kind in (labels, None)]
        gains.append(pair[0] - pair[1])
        with_kind.append(pair[0])
        without.append(pair[1])
    gain = np.concatenate(gains)
    margin = 2 * float(gain.std() / np.sqrt(len(gain))) if len(gain) else 0.0
    adopted = bool(len(gain) and gain.mean() > margin)
    return Adapter(
        adopted,
        "it finds more of the same kind" if adopted else "it does not find more of the same kind",
        labels,
        classes=int(label_codes(catalogue.labels, labels).max()) + 1,
        judged=len(gain),
        precision=_mean(with_kind),
        without=_mean(without),
        margin=round(margin, 4),
    )


def _shares(layout: Layout, judged: Catalogue, labels: Sequence[str]) -> Floats:
    """Of every labelled product, the share of its ten nearest that are of its kind."""
    looks = layout.compose(judged.vectors)
    neighbours = leave_one_out(looks, looks, judged.groups, 10)
    return shares_right(neighbours, label_codes(judged.labels, labels))


def _mean(parts: Sequence[Floats]) -> float | None:
    together = np.concatenate(parts)
    return round(float(together.mean()), 4) if len(together) else None


def _chunks(vectors: Matrix) -> Iterator[Matrix]:
    """Bounded memory, whatever the catalogue's size."""
    return (vectors[start : start + 8192] for start in range(0, len(vectors), 8192))


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)
