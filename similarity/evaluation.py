"""Judging the default mix beside the plain network, by the catalogue's own labels, so that it cannot fool us.

Looks are fitted on one half of the products and judged on the other: whatever is fitted (principal directions, the
adapter and whether it is adopted) has never seen a product that is judged. Products with the same picture, or nearly
the same, lie in the same half and never count as each other's match. Both rankings are raw.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from similarity import products
from similarity.building import default_weights
from similarity.builds import Manifest
from similarity.calibration import least_alike, near_groups
from similarity.echoes import kept_echoes
from similarity.fitting import Adapter, Catalogue, fit_looks
from similarity.looks import Layout
from similarity.mix import Mix
from similarity.ranking import Scores, label_codes, leave_one_out, scores_of
from similarity.services import live_index
from similarity.spaces import Space
from similarity.vectors import Matrix, digest_matrix, groups_of, unit

LABELS = (*((label,) for label in products.LABELS), ("product_type", "gender"), ("product_type", "gender", "colour"))
HALVES = 5

ByLabel = Mapping[str, Scores]


class EvaluationError(ValueError):
    """What was asked for cannot be judged; the message says why."""


@dataclass(frozen=True)
class Fold:
    """One fit and what it gave on products that it had not seen. `judged` are their product ids."""

    fitted_on: int
    judged: Sequence[str]
    labels: ByLabel
    baseline: ByLabel
    adapter: Adapter | None
    neighbours: Mapping[str, NDArray[np.int64]] = field(repr=False)
    """By ranking ("mix", "plain"): (n, k) positions in `judged`, -1 where there are no more."""

    def to_json(self) -> dict[str, Any]:
        return {
            "fitted_on": self.fitted_on,
            "judged": len(self.judged),
            "labels": {name: vars(scores) for name, scores in self.labels.items()},
            "baseline": {"labels": {name: vars(scores) for name, scores in self.baseline.items()}},
            "adapter": self.adapter.to_json() if self.adapter else None,
        }


@dataclass(frozen=True)
class Evaluation:
    """The folds, and their means by label. `whole` says that one fit saw all that it was judged on."""

    model: str
    mix: Mix
    products: int
    k: int
    whole: bool
    folds: Sequence[Fold]

    @property
    def labels(self) -> ByLabel:
        return _means([fold.labels for fold in self.folds])

    @property
    def baseline(self) -> ByLabel:
        return _means([fold.baseline for fold in self.folds])

    def spread(self, name: str) -> float | None:
        """The standard deviation of precision@k over the folds; None where there is one."""
        values = [value for fold in self.folds if (value := fold.labels[name].p_at_k) is not None]
        return round(float(np.std(values, ddof=1)), 4) if len(values) > 1 else None

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "mix": dict(self.mix),
            "products": self.products,
            "k": self.k,
            "whole": self.whole,
            "labels": {name: {**vars(scores), "spread": self.spread(name)} for name, scores in self.labels.items()},
            "baseline": {"labels": {name: vars(scores) for name, scores in self.baseline.items()}},
            "folds": [fold.to_json() for fold in self.folds],
        }

    def matches(self) -> Iterator[tuple[int, str, str, str, int]]:
        """(fold from 1, ranking, query, match, rank from 1) of every neighbour of every product judged."""
        for number, fold in enumerate(self.folds, 1):
            for ranking, neighbours in fold.neighbours.items():
                for query, found in zip(fold.judged, neighbours.tolist(), strict=True):
                    for rank, at in enumerate(found, 1):
                        if at >= 0:
                            yield number, ranking, query, fold.judged[at], rank


def evaluate_similarity(
    k: int = 10,
    mix: Mix | None = None,
    *,
    whole: bool = False,
    fit_ids: Sequence[str] | None = None,
    test_ids: Sequence[str] | None = None,
) -> Evaluation:
    """Judge the model of the published index over all visible products that have a look.

    By default over five random halves; with `fit_ids` and `test_ids`, fitted on the ones and judged on the others; with
    `whole`, the published index as it is, over all its products. `mix` None: the default.

    Raises SimilarityUnavailable without an index, MixError for a mix that makes no sense, EvaluationError.
    """
    live = live_index()
    ids, catalogue = catalogue_of(live.build.manifest)
    if not len(catalogue):
        raise EvaluationError("No visible product has an embedding: there is nothing to judge.")
    if whole:
        everything = np.arange(len(catalogue))
        folds = [_fold(catalogue, ids, everything, everything, k, mix, live.build.layout)]
    else:
        splits = [catalogue.halves(seed) for seed in range(HALVES)]
        if fit_ids is not None and test_ids is not None:
            splits = [_named(ids, catalogue.groups, fit_ids, test_ids)]
        if any(not len(half) for split in splits for half in split):
            raise EvaluationError("There are too few products to fit on some and judge others.")
        folds = [_fold(catalogue, ids, fitted, judged, k, mix) for fitted, judged in splits]
    used, _ = live.build.layout.usable_mix(mix)
    return Evaluation(live.build.manifest.model, used, len(catalogue), k, whole, folds)


def write_matches(evaluation: Evaluation, path: Path) -> None:
    """Every neighbour as CSV, so that anybody can compute the figures again."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("fold", "ranking", "query", "match", "rank"))
        writer.writerows(evaluation.matches())


def catalogue_of(manifest: Manifest) -> tuple[list[str], Catalogue]:
    """The visible products that the model has embedded: their ids, and what is known of them.

    Products with the same picture, or nearly the same by what echoes say of the spaces, are of one group.
    """
    rows, digests, ids = [], [], []
    labels: dict[str, list[str]] = {name: [] for name in products.LABELS}
    for row, digest, product_id, *values in products.visible_products().values_list(
        "embedding_row", "image_sha256", "product_id", *products.LABELS
    ):
        rows.append(row)
        digests.append(digest)
        ids.append(product_id)
        for name, value in zip(products.LABELS, values, strict=True):
            labels[name].append(value)
    wanted, pictures = np.array(rows, dtype=np.int64), digest_matrix(digests)
    vectors, present = {}, np.zeros(len(rows), dtype=bool)
    least: dict[str, float] = {}
    for name, identity in manifest.identities.items():
        space = Space(Path(settings.SIMILARITY["SPACES_DIR"]), identity)
        entries = space.read()
        cosine = least_alike(*kept_echoes(space, entries))
        if cosine is not None:
            least[name] = cosine
        at = entries.find(wanted, pictures)
        vectors[name] = entries.take(at)
        if name == "style":
            present = at >= 0
    kept = np.flatnonzero(present)
    catalogue = Catalogue(vectors, labels, groups_of(pictures)).take(kept)
    groups = near_groups(catalogue.vectors, least, catalogue.groups)
    return [ids[at] for at in kept.tolist()], replace(catalogue, groups=groups)


def _named(
    ids: Sequence[str], groups: NDArray[np.int64], fit_ids: Sequence[str], test_ids: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the products named; of those to judge, only the ones whose picture was not fitted on."""
    position = {product_id: at for at, product_id in enumerate(ids)}
    for product_id in (*fit_ids, *test_ids):
        if product_id not in position:
            raise EvaluationError(f"There is no visible product {product_id} with an embedding.")
    fitted = np.unique(np.array([position[each] for each in fit_ids], dtype=np.int64))
    judged = np.unique(np.array([position[each] for each in test_ids], dtype=np.int64))
    return fitted, judged[~np.isin(groups[judged], groups[fitted])]


def _fold(
    catalogue: Catalogue,
    ids: Sequence[str],
    fitted: NDArray[np.int64],
    judged: NDArray[np.int64],
    k: int,
    mix: Mix | None,
    layout: Layout | None = None,
) -> Fold:
    """Fit on some (unless there is a layout) and judge others."""
    adapter = None
    if layout is None:
        layout, adapter = fit_looks(catalogue.take(fitted), default_weights())
    unseen = catalogue.take(judged)
    looks = layout.compose(unseen.vectors)
    used, _ = layout.usable_mix(mix)
    plain: Matrix = unit(unseen.vectors["style"])
    neighbours = {
        "mix": leave_one_out(looks * layout.query_weights(used), looks, unseen.groups, k),
        "plain": leave_one_out(plain, plain, unseen.groups, k),
    }
    return Fold(
        fitted_on=len(fitted),
        judged=[ids[at] for at in judged.tolist()],
        labels=_by_label(neighbours["mix"], unseen),
        baseline=_by_label(neighbours["plain"], unseen),
        adapter=adapter,
        neighbours=neighbours,
    )


def _by_label(neighbours: NDArray[np.int64], catalogue: Catalogue) -> ByLabel:
    return {
        "+".join(names): scores_of(neighbours, label_codes(catalogue.labels, names), catalogue.groups)
        for names in LABELS
    }


def _means(folds: Sequence[ByLabel]) -> ByLabel:
    """The mean of every figure over the folds that have it; queries are added up."""
    means = {}
    for name in folds[0]:
        scores = [fold[name] for fold in folds]
        figures = {}
        for figure in ("p_at_1", "p_at_k", "ndcg_at_k", "map_at_k"):
            values = [value for each in scores if (value := getattr(each, figure)) is not None]
            figures[figure] = round(float(np.mean(values)), 4) if values else None
        means[name] = Scores(
            **figures, queries=sum(each.queries for each in scores), left_out=sum(each.left_out for each in scores)
        )
    return means
