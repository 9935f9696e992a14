"""The contract of runtimes: whatever runs a network, the vectors are the same."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured

from similarity.embedders.efficientnet import EfficientNetEmbedder
from similarity.runtimes import RuntimeUnavailable, Session
from similarity.runtimes.choice import Choice, choose_runtime, chosen_vectors, get_runtime
from similarity.runtimes.gather import Gatherer
from similarity.vectors import unit
from tests.processes import PATIENCE_S, environment, run_python
from tests.similarity.test_embedders import PICTURES, gradient

EMBEDDER = EfficientNetEmbedder()
PREPARED = np.stack([EMBEDDER.prepare(picture) for picture in PICTURES])


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(scope="module")
def oracle(converted: Path) -> np.ndarray[Any, Any]:
    """What torch computes in float32."""
    return unit(get_runtime("torch").open(EMBEDDER.network(), "float32", PREPARED[:1], converted).infer(PREPARED))


@pytest.fixture(
    scope="module",
    params=[
        ("torch", "float32", 0.99999),
        ("torch", "bfloat16", 0.98),
        ("openvino", "float32", 0.99999),
        ("openvino", "bfloat16", 0.98),
    ],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def session_and_least(request: pytest.FixtureRequest, converted: Path) -> tuple[Session, float]:
    runtime, precision, least = request.param
    return get_runtime(runtime).open(EMBEDDER.network(), precision, PREPARED[:1], converted), least


def test_every_runtime_gives_the_vectors_of_torch(
    session_and_least: tuple[Session, float], oracle: np.ndarray[Any, Any]
) -> None:
    session, least = session_and_least
    for vectors in (session.infer(PREPARED), session.submit(PREPARED).result()):
        assert vectors.dtype == np.float32
        assert (unit(vectors) * oracle).sum(axis=1).min() >= least


def test_batches_of_any_size_keep_their_order(session_and_least: tuple[Session, float]) -> None:
    session, _ = session_and_least
    many = np.concatenate([PREPARED] * 5)[: session.batch + 3]
    together = unit(session.submit(many).result())
    alone = unit(session.infer(PREPARED))
    for at, vector in enumerate(together):
        assert vector @ alone[at % len(PREPARED)] > 0.98


def test_a_converted_network_is_kept_and_then_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, django; django.setup()\n"
        "from PIL import Image\n"
        "from similarity.embedders import get_embedder\n"
        "get_embedder('efficientnet-lite0').embed([Image.new('RGB', (300, 400), (90, 20, 20))])\n"
        "print('torch' in sys.modules)"
    )
    runs = [run_python("-c", code, env=environment(tmp_path, VITRINE_RUNTIME="openvino")) for _ in range(2)]
    assert [run.stdout.strip() for run in runs] == ["True", "False"]


def test_a_network_asks_nobody_and_forks_nothing(tmp_path: Path) -> None:
    """OpenVINO's own report of its use would do both, from a thread, while ours are at work."""
    code = (
        "import sys, threading, django; django.setup()\n"
        "from PIL import Image\n"
        "from similarity.embedders import get_embedder\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, _: seen.append(event))\n"
        "get_embedder('efficientnet-lite0').embed([Image.new('RGB', (300, 400), (90, 20, 20))])\n"
        "assert 'openvino' in sys.modules and 'import' in seen\n"
        "print({'os.fork', 'os.posix_spawn', 'subprocess.Popen', 'socket.getaddrinfo', 'socket.connect'} & set(seen))"
    )
    done = run_python("-c", code, env=environment(tmp_path, VITRINE_RUNTIME="openvino"))
    assert done.stdout.strip() == "set()"


def test_threads_that_begin_together_do_not_wait_for_each_other_for_ever(tmp_path: Path) -> None:
    """Filling OpenVINO's tables of types, two of them lock each other out: always, where threads change often."""
    code = (
        "import sys, threading\n"
        "sys.setswitchinterval(1e-6)\n"
        "from similarity.runtimes.openvino import np, ov\n"
        "together = threading.Barrier(4)\n"
        "def begin():\n"
        "    together.wait()\n"
        "    ov.Type.f32.to_dtype(), ov.Tensor(np.zeros(1, np.float32))\n"
        "threads = [threading.Thread(target=begin) for _ in range(4)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "print('done')"
    )
    assert run_python("-c", code, env=environment(tmp_path), deadline_s=PATIENCE_S).stdout.strip() == "done"


def test_a_damaged_conversion_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    openvino = get_runtime("openvino")
    openvino.open(EMBEDDER.network(), "float32", PREPARED[:1], tmp_path)
    (kept,) = tmp_path.glob("*.xml")
    kept.write_text("<net>")
    with caplog.at_level(logging.WARNING):
        openvino.open(EMBEDDER.network(), "float32", PREPARED[:1], tmp_path).infer(PREPARED[:1])
    assert "made anew" in caplog.text


def test_auto_takes_openvino_where_there_is_no_gpu() -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has a GPU")
    choice = choose_runtime()
    assert choice.runtime == "openvino"
    assert choice.precision in ("float32", "bfloat16")


@pytest.mark.parametrize(
    ("name", "precision", "says"),
    [
        ("jax", "auto", "VITRINE_RUNTIME is 'jax'"),
        ("torch", "float8", "VITRINE_PRECISION is 'float8'"),
        ("torch", "int8", "int8"),
    ],
)
def test_a_senseless_choice_names_the_setting(settings: Any, name: str, precision: str, says: str) -> None:
    settings.SIMILARITY = {**settings.SIMILARITY, "RUNTIME": {"NAME": name, "PRECISION": precision}}
    with pytest.raises(ImproperlyConfigured, match=says):
        choose_runtime()


def test_float32_and_bfloat16_share_a_space() -> None:
    assert Choice("torch", "float32").vectors == Choice("openvino", "bfloat16").vectors == chosen_vectors() == "float"


# --- requests that arrive together -------------------------------------------------------------


def test_requests_that_arrive_together_share_a_batch() -> None:
    started, go_on = threading.Event(), threading.Event()
    sizes: list[int] = []

    def infer(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        sizes.append(len(batch))
        if len(sizes) == 1:
            started.set()
            assert go_on.wait(PATIENCE_S)
        return batch * 2.0

    gatherer = Gatherer(infer)
    answers: dict[int, float] = {}

    def ask(number: int) -> None:
        answers[number] = float(gatherer.infer(np.array([[number]], np.float32))[0, 0])

    first = threading.Thread(target=ask, args=(0,))
    first.start()
    assert started.wait(PATIENCE_S)
    others = [threading.Thread(target=ask, args=(number,)) for number in range(1, 6)]
    for other in others:
        other.start()
    while len(gatherer._waiting) < 5:
        pass  # they have all queued up behind the first
    go_on.set()
    for thread in (first, *others):
        thread.join(PATIENCE_S)
    assert sizes == [1, 5]
    assert answers == {number: 2.0 * number for number in range(6)}


def test_what_goes_wrong_is_told_to_everybody_in_the_batch_and_to_nobody_else() -> None:
    def infer(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if batch.sum() < 0:
            raise ValueError("no such picture")
        return batch

    gatherer = Gatherer(infer)
    with pytest.raises(ValueError, match="no such picture"):
        gatherer.infer(np.array([[-1.0]], np.float32))
    assert gatherer.infer(np.array([[1.0]], np.float32)).tolist() == [[1.0]]


def test_the_embedder_is_safe_to_use_from_several_threads() -> None:
    embedder = EfficientNetEmbedder()
    pictures = [gradient(200, 260, seed) for seed in range(4)]
    alone = [embedder.embed([picture])[0] for picture in pictures]
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda at=at: found.update({at: embedder.embed([pictures[at]])[0]})) for at in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at in range(4):
        assert found[at] @ alone[at] > 0.999


def test_int8_is_fitted_on_the_catalogues_pictures_and_kept(
    tmp_path: Path, oracle: np.ndarray[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf", reason="needs requirements-int8.txt")
    openvino = get_runtime("openvino")
    with pytest.raises(RuntimeUnavailable, match="build_index"):
        openvino.open(EMBEDDER.network(), "int8", PREPARED[:1], tmp_path)
    fitted = openvino.open(EMBEDDER.network(), "int8", PREPARED[:1], tmp_path, PREPARED)
    kept = openvino.open(EMBEDDER.network(), "int8", PREPARED[:1], tmp_path)
    np.testing.assert_array_equal(fitted.infer(PREPARED), kept.infer(PREPARED))
    assert (unit(kept.infer(PREPARED)) * oracle).sum(axis=1).min() > 0.6  # fitted on four pictures only
    assert not capsys.readouterr().out
