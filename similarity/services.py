"""Asking: which products look like this one? Pages, API and command line all answer from here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from django.conf import settings
from django.utils.translation import gettext
from numpy.typing import NDArray

from similarity import curating, products
from similarity.builds import REPAIR, BuildError, Manifest, NoBuild
from similarity.calibration import Calibration
from similarity.embedders import Embedder, EmbedderError, get_embedder
from similarity.indexes import VectorIndexError
from similarity.mix import Mix
from similarity.planning import Plan
from similarity.products import Product
from similarity.refining import RAW, Refinement, Relaxed, Wishes, diversified, leaders, nearly_same, rungs
from similarity.serving import Chosen, LiveIndex, get_index, serving_error
from similarity.timing import EMBED_S, SEARCH_S

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_K = 12
MAX_K = 100
MAX_SEVERAL = 50
"""Most products that one question may name."""
UNLIKE_WEIGHT = 0.5
LEAST_YOUNG = 100
"""So many looks beside the build cost nothing, whatever share of it they are."""
MARGIN = 4
"""Candidates beyond those that are shown: some may be hidden, or gone a moment ago."""
DIVERSE_AMONG = 3
"""For variety, k matches are chosen among about this many times k."""


class SimilarityUnavailable(Exception):
    """There is nothing to answer from; the message names the command that mends it."""


class NothingToCompare(Exception):
    """A product has nothing yet by which it could be compared; the message says which and why."""


COMPARED = ("product_type", "gender", "colour")
"""The labels that a reader is told of, the most telling first."""


@dataclass(slots=True)  # not frozen: see _Candidate
class Match:
    """A product and its score (at most 1), and what each part of the look added to it.

    `same` are the labels on which it agrees with the product asked for, `different` those on which it does not, each
    with both values; a label that either lacks is in neither. `more` counts further products with its very picture,
    or nearly so, where these were collapsed. `pinned`: the shop has chosen it; only such a one may have no score, as
    long as it has no embedding.
    """

    product: Product
    score: float | None
    parts: dict[str, float]
    same: tuple[str, ...] = ()
    different: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    more: int = 0
    pinned: bool = False


@dataclass(frozen=True)
class Answer:
    """The matches, pinned ones first, then the best first, and what the reader must know of how they came about.

    `missing_parts` could not be compared: the picture lacks them, or the index does. `waiting` says that the
    product has no embedding yet. `relaxed` are the wishes that gave in to find enough; matches that fulfil more of them
    stand first. `min_score` is the cut-off that was applied. `plans`: the ways in which the index was asked, in order.
    """

    product_id: str | None
    matches: Sequence[Match]
    mix: Mix
    missing_parts: tuple[str, ...] = ()
    waiting: bool = False
    relaxed: tuple[Relaxed, ...] = ()
    min_score: float | None = None
    plans: tuple[Plan, ...] = ()

    def to_json(self, *, explain: bool = False) -> dict[str, Any]:
        """The JSON of API and command; with `explain`, also how the matches were looked for."""
        return {
            **({"plan": [plan.to_json() for plan in self.plans]} if explain else {}),
            "product_id": self.product_id,
            "mix": dict(self.mix),
            "missing_parts": list(self.missing_parts),
            "relaxed": [{**vars(each), "wanted": list(each.wanted)} for each in self.relaxed],
            "min_score": self.min_score,
            "matches": [
                {
                    "product_id": match.product.product_id,
                    "score": None if match.score is None else round(match.score, 4),
                    "parts": {part: round(value, 4) for part, value in match.parts.items()},
                    "same": list(match.same),
                    "different": {label: list(values) for label, values in match.different.items()},
                    "more": match.more,
                    "pinned": match.pinned,
                    "title": match.product.title,
                    "url": match.product.get_absolute_url(),
                    "thumbnail": match.product.thumbnail.url if match.product.thumbnail else None,
                }
                for match in self.matches
            ],
        }


def default_mix() -> Mix:
    """How the published index weighs the parts of a look. Raises SimilarityUnavailable without an index."""
    return live_index().build.layout.default_mix


def similar_to(
    product: Product,
    k: int = DEFAULT_K,
    mix: Mix | None = None,
    refinement: Refinement = RAW,
    *,
    curated: bool = True,
) -> Answer:
    """The k visible products most like this one, itself left out. Two database queries where there are no wishes.

    `curated`: those that the shop has pinned come first, whatever the refinement says, and without a score where they
    have no embedding yet; those that it hides here do not come at all. Without it, one query less.
    Raises SimilarityUnavailable without an index, MixError for a mix that makes no sense.
    """
    live = live_index()
    mix, unknown = live.build.layout.usable_mix(mix)
    choices = curating.choices_for(product) if curated else curating.NONE
    look, is_built = _look_of(live, product)
    question = _Question(
        np.zeros(live.build.layout.dimension, np.float32) if look is None else look,
        k,
        mix,
        unknown,
        refinement,
        (product,),
        product.product_id,
        pinned=tuple(other for other in choices.pinned if other.is_visible)[:k],
        hidden=choices.hidden,
        is_built=is_built,
    )
    if look is None:
        answer = Answer(product.product_id, (), mix, unknown, waiting=product.embedding_row is not None)
        return _pinned_alone(live, question, answer)
    return _answer(live, question)


def compare(product: Product, other: Product, mix: Mix | None = None) -> Answer:
    """What `similar_to` says of one other product: the match with it, alone. `missing_parts` are those either lacks.

    Raises NothingToCompare where one has no picture, or none that was embedded yet; else as `similar_to`.
    """
    live = live_index()
    layout = live.build.layout
    mix, missing = layout.usable_mix(mix)
    looks = []
    for one in (product, other):
        if one.embedding_row is None:
            raise NothingToCompare(gettext("The product %(id)s has no picture.") % {"id": one.product_id})
        look, _ = _look_of(live, one)
        if look is None:
            said = gettext("The picture of %(id)s is new and waits for the index to be built again.")
            raise NothingToCompare(said % {"id": one.product_id})
        missing += tuple(part for part in layout.missing_parts(look) if mix[part] and part not in missing)
        looks.append(look)
    query = looks[0] * layout.query_weights(mix)
    parts = {name: float(values[0]) for name, values in layout.contributions(query, looks[1][np.newaxis]).items()}
    match = Match(other, float(query @ looks[1]), parts, *_agreement(_labels_of(product), other))
    return Answer(product.product_id, (match,), mix, missing)


def similar_to_several(
    like: Sequence[Product],
    unlike: Sequence[Product] = (),
    k: int = DEFAULT_K,
    mix: Mix | None = None,
    refinement: Refinement = RAW,
) -> Answer:
    """The k visible products most like some products and least like others, all of these left out.

    The query is the mean of the one's looks less half the mean of the others' (Rocchio, 1971): what is liked says more
    than what is not. Products without a look say nothing. Raises as `similar_to`.
    """
    live = live_index()
    mix, unknown = live.build.layout.usable_mix(mix)
    means = []
    for some in (like, unlike):
        looks = [look for product in some if (look := _look_of(live, product)[0]) is not None]
        means.append(np.mean(looks, axis=0) if looks else np.zeros(live.build.layout.dimension, np.float32))
    look = np.asarray(means[0] - UNLIKE_WEIGHT * means[1], dtype=np.float32)
    if means[1].any():
        look /= 1 + UNLIKE_WEIGHT  # scores stay at most 1
    return _answer(live, _Question(look, k, mix, unknown, refinement, tuple(like), unlike=tuple(unlike)))


def _look_of(live: LiveIndex, product: Product) -> tuple[NDArray[np.float32] | None, bool]:
    """As `LiveIndex.look_of`."""
    if product.embedding_row is None:
        return None, False
    try:
        return live.look_of(product.embedding_row, product.image_sha256)
    except VectorIndexError as error:
        raise SimilarityUnavailable(f"The index cannot answer: {error}") from error


def similar_to_image(
    image: Image.Image, k: int = DEFAULT_K, mix: Mix | None = None, refinement: Refinement = RAW
) -> Answer:
    """The k visible products most like an RGB picture, with the model that the index was built with.

    Raises SimilarityUnavailable without an index or where that model cannot be had, MixError as `similar_to`.
    """
    live = live_index()
    mix, unknown = live.build.layout.usable_mix(mix)
    vectors = {}
    for space in live.build.manifest.identities:
        embedder = embedder_of(live, space)
        try:
            with EMBED_S.time():
                vectors[space] = embedder.embed([image])
        except EmbedderError as error:
            raise SimilarityUnavailable(str(error)) from error
    look = live.build.layout.compose(vectors)[0]
    return _answer(live, _Question(look, k, mix, unknown, refinement))


def embedder_of(live: LiveIndex, space: str) -> Embedder:
    """The embedder that made the index's vectors of a space. Raises SimilarityUnavailable where it cannot be had."""
    manifest = live.build.manifest
    name = manifest.model if space == "style" else space
    embedder = get_embedder(name)
    try:
        if embedder.identity() == manifest.identities[space]:
            return embedder
    except EmbedderError as error:
        raise SimilarityUnavailable(str(error)) from error
    raise SimilarityUnavailable(
        f"The index was built with another version of {name} (its weights, its preprocessing or an option differ). "
        f"{REPAIR}"
    )


def live_index() -> LiveIndex:
    """The published index of this process. Raises SimilarityUnavailable where there is none to answer from."""
    try:
        return get_index()
    except BuildError as error:
        raise SimilarityUnavailable(str(error)) from error


@dataclass(eq=False, slots=True)  # not frozen: see _Candidate
class _Question:
    """What is looked for: `look` (dimension,), how it is to be compared, and what is done with what is found.

    `like` and `unlike` are the products asked with; none of them is an answer, and no `hidden` one. `product_id` is the
    one product's. `pinned` are answers in any case, and no more than k. `is_built`: the look is one of the build's.
    """

    look: NDArray[np.float32]
    k: int
    mix: Mix
    unknown: tuple[str, ...]
    refinement: Refinement
    like: tuple[Product, ...] = ()
    product_id: str | None = None
    unlike: tuple[Product, ...] = ()
    pinned: tuple[Product, ...] = ()
    hidden: tuple[Product, ...] = ()
    is_built: bool = False

    @property
    def excluded(self) -> frozenset[int]:
        return frozenset(product.pk for product in (*self.like, *self.unlike, *self.hidden))


def _answer(live: LiveIndex, question: _Question) -> Answer:
    layout, mix = live.build.layout, question.mix
    missing = question.unknown + tuple(part for part in layout.missing_parts(question.look) if mix[part])
    query = question.look * layout.query_weights(mix)
    if not query.any():
        return _pinned_alone(live, question, Answer(question.product_id, (), mix, missing))
    min_score = question.refinement.min_score
    if isinstance(min_score, str):  # measured for one look; the mean of several is like nothing as much
        several = len(question.like) + len(question.unlike) > 1
        min_score = None if several else live.build.calibration.cutoff(mix)
    return _search(live, query, question, missing, min_score)


@dataclass(eq=False, slots=True)  # not frozen: a dozen are made for every page, and freezing takes most of that time
class _Candidate:
    """A product that may be shown, its look (dimension,), and the rung of the wishes on which it was found.

    A pinned one without embedding has no score, and a look of zeros.
    """

    product: Product
    score: float | None
    look: NDArray[np.float32]
    rung: int


@SEARCH_S.time()
def _search(
    live: LiveIndex,
    query: NDArray[np.float32],
    question: _Question,
    missing: tuple[str, ...],
    min_score: float | None,
) -> Answer:
    """Those that fulfil all wishes, then what is left of these, until there are k."""
    refinement, k, pinned = question.refinement, question.k, len(question.pinned)
    wishes, unheard = _wishes(question)
    candidates = _pinned(live, query, question)
    ladder: list[tuple[Relaxed, ...]] = []
    plans: list[Plan] = []
    for remaining, relaxed in rungs(wishes, products.related_values):
        seen = question.excluded | {each.product.pk for each in candidates}
        narrowed = remaining or refinement.words or refinement.among is not None
        chosen = _chosen(live, remaining, refinement) if narrowed else None
        rung = _Rung(len(ladder), chosen, seen, min_score)
        ladder.append(relaxed)
        candidates, led = _candidates(live, query, question, rung, candidates, plans)
        if not refinement.relax or _count_leaders(led) >= k:
            break
    found, more = candidates[:k], [0] * k
    if refinement.collapse or refinement.diversity:
        shown = np.flatnonzero(led == np.arange(len(led)))
        if refinement.diversity:
            ranked = shown[pinned:]
            varied = _diversified(live, question, [candidates[at] for at in ranked.tolist()], k - pinned)
            shown = np.concatenate([shown[:pinned], ranked[varied]])
        shown = shown[:k]
        found = [candidates[at] for at in shown.tolist()]
        more = (np.bincount(led, minlength=len(led))[shown] - 1).tolist()
    matches = _matches(live, query, question, found, more)
    last = max((each.rung for each in found), default=0)
    relaxed = (*unheard, *ladder[last])
    return Answer(question.product_id, matches, question.mix, missing, False, relaxed, min_score, tuple(plans))


def _chosen(live: LiveIndex, wishes: Wishes, refinement: Refinement) -> Chosen:
    """The looks of visible products that fulfil the wishes and what gives in to nothing."""
    allowed = products.allowed(wishes, refinement.words, refinement.among)
    return live.choose(allowed.columns, allowed.places, allowed.key)


def _pinned_alone(live: LiveIndex, question: _Question, answer: Answer) -> Answer:
    """The answer where there is nothing to search with."""
    query = np.zeros_like(question.look)
    found = [replace(each, score=None) for each in _pinned(live, query, question)]
    return replace(answer, matches=_matches(live, query, question, found, [0] * len(found)))


def _pinned(live: LiveIndex, query: NDArray[np.float32], question: _Question) -> list[_Candidate]:
    candidates = []
    for product in question.pinned:
        look, _ = _look_of(live, product)
        score = None if look is None else float(look @ query)
        candidates.append(_Candidate(product, score, np.zeros_like(query) if look is None else look, rung=0))
    return candidates


def _matches(
    live: LiveIndex,
    query: NDArray[np.float32],
    question: _Question,
    found: Sequence[_Candidate],
    more: Sequence[int],
) -> tuple[Match, ...]:
    """The candidates, pinned ones first, as matches; `more` of each shows the same."""
    looks = np.array([each.look for each in found]).reshape(len(found), len(query))
    contributions = live.build.layout.contributions(query, looks)
    names, parts = tuple(contributions), np.array([*contributions.values()]).T.tolist()
    labels = _labels_of(question.like[0]) if question.product_id else _NO_LABELS
    pinned = len(question.pinned)
    return tuple(
        Match(
            each.product,
            each.score,
            {} if each.score is None else dict(zip(names, parts[at], strict=True)),
            *_agreement(labels, each.product),
            more[at],
            at < pinned,
        )
        for at, each in enumerate(found)
    )


def _wishes(question: _Question) -> tuple[Wishes, tuple[Relaxed, ...]]:
    """The values that each label may have; and the wishes that cannot be heard, as there is no value for them."""
    refinement = question.refinement
    wishes = {label: tuple(values) for label, values in refinement.only.items()}
    unheard = []
    for label in (*refinement.same, *refinement.differ):
        own = tuple(dict.fromkeys(value for product in question.like if (value := getattr(product, label))))
        values = own if label in refinement.same or not own else products.other_values(label, own)
        if not values:
            unheard.append(Relaxed(label, (), "any"))
        elif both := tuple(value for value in values if value in wishes.get(label, values)):
            wishes[label] = both  # otherwise the filter stands alone
    return wishes, tuple(unheard)


@dataclass(eq=False, slots=True)  # not frozen: see _Candidate
class _Rung:
    """Where to look: among those `chosen`, or everywhere; not for products `seen`, by primary key, nor below
    `min_score`."""

    number: int
    chosen: Chosen | None
    seen: frozenset[int]
    min_score: float | None


def _candidates(
    live: LiveIndex,
    query: NDArray[np.float32],
    question: _Question,
    rung: _Rung,
    before: list[_Candidate],
    plans: list[Plan],
) -> tuple[list[_Candidate], NDArray[np.int64]]:
    """The candidates `before` and those of this rung, until k of them stand for themselves; and who stands for each.

    A few more are looked up, as some may be gone, or copies of others. Where so many are hidden that too few are left,
    only those that visitors may see are asked for.
    """
    exactly, slack = live.build.calibration.way_of(question.mix)
    known = float(question.look @ query) if question.is_built else None
    k, chosen = question.k, rung.chosen
    reach = (DIVERSE_AMONG if question.refinement.diversity else 1) * k + MARGIN + len(rung.seen)
    while True:
        try:
            hits = live.search(query, reach, chosen, exactly=exactly, slack=slack, known=known)
        except VectorIndexError as error:
            raise SimilarityUnavailable(f"The index cannot answer: {error}") from error
        plans.append(hits.plan)
        high = len(hits.rows) if rung.min_score is None else int((hits.scores >= rung.min_score).sum())
        rows = hits.rows[:high].tolist()
        found = products.visible_by_row(rows)
        candidates = [*before]
        scores, digests = hits.scores.tolist(), hits.digests.tobytes().hex()
        most = sys.maxsize if question.refinement.collapse or question.refinement.diversity else k
        seen = rung.seen
        for at, row in enumerate(rows):
            if len(candidates) >= most:
                break
            product = found.get(row)
            if (
                product is not None
                and product.id not in seen  # `pk` takes ten times as long to find
                and product.image_sha256 == digests[64 * at : 64 * at + 64]
            ):
                candidates.append(_Candidate(product, scores[at], hits.looks[at], rung.number))
        led = _leaders(live, question, candidates)
        if _count_leaders(led) >= k or high < len(hits.rows) or len(hits.rows) < reach:
            return candidates, led
        if chosen is None:
            chosen = _chosen(live, {}, RAW)
        else:
            reach *= 4


def _count_leaders(led: NDArray[np.int64]) -> int:
    """How many of the candidates stand for themselves."""
    return int(np.count_nonzero(led == np.arange(len(led))))


def _leaders(live: LiveIndex, question: _Question, candidates: Sequence[_Candidate]) -> NDArray[np.int64]:
    """(n,) the candidate that stands for each: itself where nothing is collapsed."""
    if not question.refinement.collapse or not candidates:
        return np.arange(len(candidates))
    least = live.build.calibration.near_duplicates
    near = None
    if least:
        looks = np.array([each.look for each in candidates])
        columns = live.build.layout.slices
        near = nearly_same({name: looks[:, columns[name]] for name in least}, least)
    pictures, pinned = [each.product.image_sha256 for each in candidates], len(question.pinned)
    led = leaders(pictures, near, pinned)
    collapsed = [candidates[at].product for at in np.flatnonzero(led != np.arange(len(led))).tolist()]
    if not any(getattr(product, "told_apart", False) for product in collapsed):
        return led
    place = {each.product.pk: at for at, each in enumerate(candidates)}
    apart = [sorted((place[one], place[other])) for one, other in products.told_apart(list(place))]
    return leaders(pictures, near, pinned, [(earlier, later) for earlier, later in apart])


def _diversified(live: LiveIndex, question: _Question, candidates: Sequence[_Candidate], k: int) -> list[int]:
    looks = np.array([each.look for each in candidates]).reshape(len(candidates), len(question.look))
    return diversified(
        np.array([each.score for each in candidates], dtype=np.float32),
        (looks * live.build.layout.query_weights(question.mix)) @ looks.T,
        np.array([each.rung for each in candidates], dtype=np.int64),
        k,
        question.refinement.diversity,
    )


_labels_of: Callable[[Product], tuple[str, ...]] = attrgetter(*COMPARED)
"""The values of the labels that a reader is told of."""


def _agreement(own: tuple[str, ...], match: Product) -> tuple[tuple[str, ...], dict[str, tuple[str, str]]]:
    """Where the labels of the product asked for and those of a match agree, and where they do not; where either has
    none, neither."""
    others = _labels_of(match)
    if own == others and all(own):
        return COMPARED, {}
    pairs = [(label, one, other) for label, one, other in zip(COMPARED, own, others, strict=True) if one and other]
    same = tuple(label for label, one, other in pairs if one == other)
    return same, {label: (one, other) for label, one, other in pairs if one != other}


_NO_LABELS = ("",) * len(COMPARED)


@dataclass(frozen=True)
class IndexStatus:
    """What the index holds. `state`: ok, missing (none was built yet) or broken; `trouble` says how to mend it.

    `waiting` pictures have no look yet; `young` ones have one that is younger than the build and answers beside it.
    """

    state: str
    manifest: Manifest | None
    products: int
    with_picture: int
    waiting: int
    trouble: str
    young: int = 0
    calibration: Calibration | None = None

    @property
    def is_rebuild_due(self) -> bool:
        """Whether so many looks are younger than the build, each compared with every question, that it is worth
        building again: more than `SIMILARITY["REBUILD"]["SHARE"]` of it."""
        share: float = settings.SIMILARITY["REBUILD"]["SHARE"]
        return self.manifest is not None and self.young > max(LEAST_YOUNG, share * self.manifest.count)

    @property
    def age_s(self) -> float | None:
        return (datetime.now(UTC) - self.manifest.created_at).total_seconds() if self.manifest else None

    @property
    def cutoff(self) -> float | None:
        """The score under the default mix below which pages show nothing."""
        if self.calibration is None or self.manifest is None:
            return None
        return self.calibration.cutoff({part["name"]: part["weight"] for part in self.manifest.parts})

    def to_json(self) -> dict[str, Any]:
        manifest = self.manifest
        return {
            "state": self.state,
            "products": self.products,
            "with_picture": self.with_picture,
            "waiting": self.waiting,
            "young": self.young,
            "rebuild_due": self.is_rebuild_due,
            "build": manifest.id if manifest else None,
            "model": manifest.model if manifest else None,
            "looks": manifest.count if manifest else 0,
            "dimension": manifest.dimension if manifest else None,
            "parts": {part["name"]: part["weight"] for part in manifest.parts} if manifest else {},
            "built_at": manifest.created_at.isoformat() if manifest else None,
            "age_s": round(self.age_s) if self.age_s is not None else None,
            "near_duplicates": dict(self.calibration.near_duplicates) if self.calibration else {},
            "cutoff": self.cutoff,
        }


def index_status() -> IndexStatus:
    """What the index holds and what waits for it: products whose picture has no look in build or tail."""
    columns = products.columns()
    young = 0
    with_picture = waiting = int(np.count_nonzero(columns.rows >= 0))
    error = serving_error()
    try:
        live = get_index()
    except BuildError:
        live = None
    if live is not None:
        known, young = live.count_known(columns)
        waiting -= known + young
    state = "missing" if isinstance(error, NoBuild) else "broken" if error else "ok"
    return IndexStatus(
        state=state,
        manifest=live.build.manifest if live else None,
        products=products.count_products(),
        with_picture=with_picture,
        waiting=waiting,
        trouble=str(error) if error else "",
        young=young,
        calibration=live.build.calibration if live else None,
    )
