"""Judging the default mix beside the plain network, by the catalogue's own labels, so that it cannot fool us.

Looks are fitted on one half of the products and judged on the other: whatever is fitted (principal directions, the
adapter and whether it is adopted) has never seen a product that is judged. Products with the same picture, or nearly
the same, lie in the same half and never count as each other's match. Both rankings are raw.

`evaluate_similarity` judges the published index's model, `compare_models` several models beside each other, and
`evaluate_build` does it quickly enough to follow every build.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings

from similarity import products
from similarity.building import default_weights, named_model
from similarity.builds import Manifest
from similarity.calibration import least_alike, near_groups
from similarity.echoes import kept_echoes
from similarity.embedders import Identity, get_embedder
from similarity.fitting import Adapter, Catalogue, fit_looks
from similarity.looks import Layout
from similarity.mix import Mix
from similarity.ranking import (
    Positions,
    Scores,
    label_codes,
    leave_one_out,
    precision_curve,
    rights,
    scores_of,
    shares_right,
)
from similarity.services import live_index
from similarity.spaces import Space
from similarity.vectors import Matrix, digest_matrix, groups_of, unit

LABELS = (*((label,) for label in products.LABELS), ("product_type", "gender"), ("product_type", "gender", "colour"))
HALVES = 5
QUICK_HALVES = 3
"""As many as a build's own report takes, which shall cost little beside the build."""
QUICK_PRODUCTS, QUICK_QUERIES = 20_000, 2_000
"""Most products that a build's own report takes in all, and most of a half's that it asks for neighbours."""

ByLabel = Mapping[str, Scores]


class EvaluationError(ValueError):
    """What was asked for cannot be judged; the message says why."""


@dataclass(frozen=True)
class ClassScore:
    """Precision@k of the queries that bear one value of a label: the mix's, and the plain network's."""

    p_at_k: float
    plain: float
    queries: int


@dataclass(frozen=True)
class Fold:
    """One fit and what it gave on products that it had not seen. `judged` are their product ids."""

    fitted_on: int
    judged: Sequence[str]
    labels: ByLabel
    baseline: ByLabel
    adapter: Adapter | None
    unseen: Catalogue = field(repr=False)
    """What is known of the judged, line by line."""
    asked: Positions = field(repr=False)
    """(m,) positions in `judged` of those whose neighbours were looked for."""
    neighbours: Mapping[str, Positions] = field(repr=False)
    """By ranking ("mix", "plain"): (m, k) positions in `judged`, -1 where there are no more."""

    def codes(self, name: str) -> Positions:
        """(n,) a number for each value of a label, or of several joined by "+"; -1 where there is none."""
        return label_codes(self.unseen.labels, name.split("+"))

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
    """The folds, and their means by label. `whole` says that one fit saw all that it was judged on.

    `sampled`: how many products of each half were asked for their neighbours, where that was not all; else None.
    """

    model: str
    mix: Mix
    products: int
    k: int
    whole: bool
    folds: Sequence[Fold]
    sampled: int | None = None

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

    def ratio(self, name: str) -> float | None:
        """Precision@k of the mix by that of the plain network; None where there is no such figure."""
        mix, plain = self.labels[name].p_at_k, self.baseline[name].p_at_k
        return mix / plain if mix is not None and plain else None

    def curve(self, name: str, ranking: str) -> list[float] | None:
        """Precision at 1, 2, …, k of a ranking ("mix", "plain") by a label: the mean over the folds that have it."""
        curves = [precision_curve(fold.neighbours[ranking], fold.codes(name), fold.asked) for fold in self.folds]
        known = [curve for curve in curves if curve is not None]
        return [round(float(value), 4) for value in np.mean(known, axis=0)] if known else None

    @property
    def classes(self) -> Mapping[str, Mapping[str, ClassScore]]:
        """Label → value → its figures, over the queries of all folds alike; the value with most queries first."""
        return {name: self._classes(name) for name in products.LABELS}

    def _classes(self, name: str) -> dict[str, ClassScore]:
        shares: dict[str, list[tuple[float, float]]] = {}
        for fold in self.folds:
            codes = fold.codes(name)
            mix, plain = (
                shares_right(fold.neighbours[ranking], codes, fold.asked).tolist() for ranking in ("mix", "plain")
            )
            _, judged = rights(fold.neighbours["mix"], codes, fold.asked)
            for at, *pair in zip(fold.asked[judged].tolist(), mix, plain, strict=True):
                shares.setdefault(fold.unseen.labels[name][at], []).append((pair[0], pair[1]))
        scores = {}
        for value, pairs in sorted(shares.items(), key=lambda item: (-len(item[1]), item[0])):
            p_at_k, plain_p_at_k = np.mean(pairs, axis=0).round(4).tolist()
            scores[value] = ClassScore(p_at_k, plain_p_at_k, len(pairs))
        return scores

    def figures(self) -> dict[str, Any]:
        """The means by label, as JSON."""
        return {
            "labels": {name: {**vars(scores), "spread": self.spread(name)} for name, scores in self.labels.items()},
            "baseline": {"labels": {name: vars(scores) for name, scores in self.baseline.items()}},
        }

    def summary(self) -> dict[str, Any]:
        """What was judged, and the means by label, as JSON."""
        return {
            "model": self.model,
            "mix": dict(self.mix),
            "products": self.products,
            "k": self.k,
            "whole": self.whole,
            "sampled": self.sampled,
            **self.figures(),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            **self.summary(),
            "folds": [fold.to_json() for fold in self.folds],
            "classes": {
                name: {value: vars(score) for value, score in scores.items()} for name, scores in self.classes.items()
            },
        }

    def matches(self) -> Iterator[tuple[int, str, str, str, int]]:
        """(fold from 1, ranking, query, match, rank from 1) of every neighbour of every product judged."""
        for number, fold in enumerate(self.folds, 1):
            for ranking, neighbours in fold.neighbours.items():
                for query, found in zip(fold.asked.tolist(), neighbours.tolist(), strict=True):
                    for rank, at in enumerate(found, 1):
                        if at >= 0:
                            yield number, ranking, fold.judged[query], fold.judged[at], rank


@dataclass(frozen=True)
class Comparison:
    """Several models over the same products and the same halves, by name."""

    evaluations: Mapping[str, Evaluation]
    products: int
    k: int
    mix: Mix

    def to_json(self) -> dict[str, Any]:
        return {
            "models": {name: evaluation.figures() for name, evaluation in self.evaluations.items()},
            "products": self.products,
            "k": self.k,
            "mix": dict(self.mix),
        }


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
    manifest = live.build.manifest
    ids, catalogue = catalogue_of(manifest.identities)
    if whole:
        _refuse_nothing(catalogue)
        everything = np.arange(len(catalogue))
        folds = [_fold(catalogue, ids, everything, everything, k, mix, layout=live.build.layout)]
    else:
        splits = _splits(ids, catalogue, fit_ids, test_ids)
        folds = [_fold(catalogue, ids, fitted, judged, k, mix) for fitted, judged in splits]
    used, _ = live.build.layout.usable_mix(mix)
    return Evaluation(manifest.model, used, len(catalogue), k, whole, folds)


def evaluate_build(manifest: Manifest, k: int = 10) -> Evaluation:
    """Judge what a build is made of, over a fixed random sample where there is much of it. Raises EvaluationError.

    What the sample costs does not grow with the catalogue: QUICK_PRODUCTS and QUICK_QUERIES bound it.
    """
    ids, catalogue = catalogue_of(manifest.identities, QUICK_PRODUCTS)
    splits = _splits(ids, catalogue, halves=QUICK_HALVES)
    folds = [_fold(catalogue, ids, fitted, judged, k, None, most=QUICK_QUERIES) for fitted, judged in splits]
    sampled = QUICK_QUERIES if any(len(fold.asked) < len(fold.judged) for fold in folds) else None
    weights = {part["name"]: part["weight"] for part in manifest.parts}
    return Evaluation(manifest.model, weights, len(catalogue), k, False, folds, sampled)


def compare_models(
    models: Sequence[str],
    k: int = 10,
    mix: Mix | None = None,
    *,
    fit_ids: Sequence[str] | None = None,
    test_ids: Sequence[str] | None = None,
) -> Comparison:
    """Judge several models, of which only the spaces are needed, over the products that all of them have embedded.

    Raises EvaluationError where one of them lacks products that another has, EmbedderError, MixError.
    """
    colour = get_embedder("colour").identity()
    known = {
        name: catalogue_of({"style": get_embedder(named_model(name)).identity(), "colour": colour}) for name in models
    }
    _refuse_holes({name: ids for name, (ids, _) in known.items()})
    shared = set.intersection(*(set(ids) for ids, _ in known.values()))
    groups, splits, evaluations = None, None, {}
    used = default_weights() if mix is None else mix
    for name, (all_ids, all_products) in known.items():
        at = np.array([at for at, each in enumerate(all_ids) if each in shared], dtype=np.int64)
        ids, catalogue = [all_ids[each] for each in at.tolist()], all_products.take(at)
        # The first model's halves are everybody's, whatever makes two pictures count as one.
        groups = catalogue.groups if groups is None else groups
        catalogue = replace(catalogue, groups=groups)
        splits = _splits(ids, catalogue, fit_ids, test_ids) if splits is None else splits
        folds = [_fold(catalogue, ids, fitted, judged, k, mix) for fitted, judged in splits]
        evaluations[name] = Evaluation(name, used, len(catalogue), k, False, folds)
    return Comparison(evaluations, len(shared), k, used)


def _refuse_holes(embedded: Mapping[str, Sequence[str]]) -> None:
    """Raise EvaluationError for a model without products that another one has, unless they could not be read."""
    wanted = set().union(*embedded.values()) - products.unreadable_ids()
    for name, ids in embedded.items():
        lacks = len(wanted - set(ids))
        if lacks or not ids:
            has = f"lacks the embeddings of {lacks} of {len(wanted)} products" if ids else "has embedded no product yet"
            raise EvaluationError(f"The model {name} {has}. Run: python manage.py build_index --model {name}")


def _refuse_nothing(catalogue: Catalogue) -> None:
    if not len(catalogue):
        raise EvaluationError("No visible product has an embedding: there is nothing to judge.")


def _splits(
    ids: Sequence[str],
    catalogue: Catalogue,
    fit_ids: Sequence[str] | None = None,
    test_ids: Sequence[str] | None = None,
    halves: int = HALVES,
) -> list[tuple[Positions, Positions]]:
    """Positions to fit on and to judge: so many random halves, or the products named."""
    _refuse_nothing(catalogue)
    if fit_ids is not None and test_ids is not None:
        splits = [_named(ids, catalogue.groups, fit_ids, test_ids)]
    else:
        splits = [catalogue.halves(seed) for seed in range(halves)]
    if any(not len(half) for split in splits for half in split):
        raise EvaluationError("There are too few products to fit on some and judge others.")
    return splits


def write_matches(evaluation: Evaluation, path: Path) -> None:
    """Every neighbour as CSV, so that anybody can compute the figures again."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("fold", "ranking", "query", "match", "rank"))
        writer.writerows(evaluation.matches())


def catalogue_of(identities: Mapping[str, Identity], most: int | None = None) -> tuple[list[str], Catalogue]:
    """The visible products that the network has embedded: their ids, and what is known of them. A fixed random sample
    of `most` where there are more.

    `identities`: whose vectors are wanted, by space. Products with the same picture, or nearly the same by what echoes
    say of the spaces, are of one group.
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
    for name, identity in identities.items():
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
    if most is not None and len(kept) > most:
        kept = np.sort(np.random.default_rng(0).choice(kept, most, replace=False))
    catalogue = Catalogue(vectors, labels, groups_of(pictures)).take(kept)
    groups = near_groups(catalogue.vectors, least, catalogue.groups)
    return [ids[at] for at in kept.tolist()], replace(catalogue, groups=groups)


def _named(
    ids: Sequence[str], groups: Positions, fit_ids: Sequence[str], test_ids: Sequence[str]
) -> tuple[Positions, Positions]:
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
    fitted: Positions,
    judged: Positions,
    k: int,
    mix: Mix | None,
    *,
    layout: Layout | None = None,
    most: int | None = None,
) -> Fold:
    """Fit on some (unless there is a layout) and judge others; `most`: ask for the neighbours of so many, by chance."""
    adapter = None
    if layout is None:
        layout, adapter = fit_looks(catalogue.take(fitted), default_weights())
    unseen = catalogue.take(judged)
    looks = layout.compose(unseen.vectors)
    used, _ = layout.usable_mix(mix)
    plain: Matrix = unit(unseen.vectors["style"])
    asked = np.arange(len(judged))
    if most is not None and len(judged) > most:
        asked = np.sort(np.random.default_rng(0).choice(len(judged), most, replace=False))
    neighbours = {
        "mix": leave_one_out(looks * layout.query_weights(used), looks, unseen.groups, k, asked),
        "plain": leave_one_out(plain, plain, unseen.groups, k, asked),
    }
    return Fold(
        fitted_on=len(fitted),
        judged=[ids[at] for at in judged.tolist()],
        labels=_by_label(neighbours["mix"], unseen, asked),
        baseline=_by_label(neighbours["plain"], unseen, asked),
        adapter=adapter,
        unseen=unseen,
        asked=asked,
        neighbours=neighbours,
    )


def _by_label(neighbours: Positions, catalogue: Catalogue, asked: Positions) -> ByLabel:
    return {
        "+".join(names): scores_of(neighbours, label_codes(catalogue.labels, names), catalogue.groups, asked)
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
