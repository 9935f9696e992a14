"""Spaces: what was appended stays, whatever happened to the one who wrote."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from similarity.embedders import Identity
from similarity.spaces import Space, SpaceError
from tests.processes import PATIENCE_S

IDENTITY = Identity("toy", "1", "abc", "none")
DIGESTS = np.arange(5 * 32, dtype=np.uint8).reshape(5, 32)
ROWS = np.array([10, 11, 12, 13, 14])
VECTORS = np.eye(5, 3, dtype=np.float32) + 0.5


def space_in(folder: Path) -> Space:
    return Space(folder, IDENTITY)


def fill(space: Space, count: int = 5) -> None:
    with space.writing() as writer:
        for at in range(count):
            writer.append(ROWS[at : at + 1], DIGESTS[at : at + 1], VECTORS[at : at + 1])


def test_what_was_appended_is_found_by_row_and_digest(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    fill(space)
    entries = space.read()
    positions = entries.find(np.array([12, 99]), DIGESTS[[2, 2]])
    assert positions.tolist() == [2, -1]
    np.testing.assert_array_equal(entries.take(positions), [VECTORS[2], [0, 0, 0]])


def test_a_row_whose_picture_is_another_counts_as_absent(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    fill(space)
    assert space.read().find(ROWS[:1], DIGESTS[1:2]).tolist() == [-1]


def test_an_empty_space_reads_as_empty(tmp_path: Path) -> None:
    entries = space_in(tmp_path).read()
    assert entries.find(ROWS, DIGESTS).tolist() == [-1] * 5


def test_identities_have_spaces_of_their_own(tmp_path: Path) -> None:
    assert Space(tmp_path, IDENTITY).folder != Space(tmp_path, Identity("toy", "2", "abc", "none")).folder


@pytest.mark.parametrize("file", ["keys-0001.bin", "vectors-0001.f32"])
def test_a_tail_torn_at_any_byte_is_cut_off_and_writing_goes_on(tmp_path: Path, file: str) -> None:
    space = space_in(tmp_path)
    fill(space, 2)
    path = space.folder / file
    whole = path.read_bytes()
    for size in range(len(whole) // 2, len(whole)):
        path.write_bytes(whole[:size])
        assert len(space.read().rows) == 1
        with space.writing() as writer:
            writer.append(ROWS[1:2], DIGESTS[1:2], VECTORS[1:2])
        entries = space.read()
        assert entries.rows.tolist() == [10, 11]
        np.testing.assert_array_equal(entries.vectors, VECTORS[:2])


def test_a_tail_with_wrong_bytes_is_cut_off(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    fill(space, 3)
    path = space.folder / "vectors-0001.f32"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 0xFF
    path.write_bytes(damaged)
    assert space.read().rows.tolist() == [10, 11]


def test_the_later_vector_of_a_row_counts_and_compacting_drops_the_former(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    fill(space, 3)
    before = space.read()
    with space.writing() as writer:
        writer.append(ROWS[:1], DIGESTS[:1], VECTORS[4:5])
        writer.compact(keep=ROWS)
        writer.append(ROWS[3:4], DIGESTS[3:4], VECTORS[3:4])
    entries = space.read()
    assert entries.rows.tolist() == [11, 12, 10, 13]
    np.testing.assert_array_equal(entries.vectors[2], VECTORS[4])
    np.testing.assert_array_equal(before.vectors, VECTORS[:3])  # a reader keeps what it had open
    assert len(list(space.folder.glob("*.f32"))) == 1


def damage(space: Space, at: int) -> None:
    """Change one byte of the vector at that place."""
    path = space.folder / "vectors-0001.f32"
    content = bytearray(path.read_bytes())
    content[at * VECTORS[0].nbytes] ^= 0x55
    path.write_bytes(content)


def test_compacting_drops_what_is_not_kept_and_what_is_damaged(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    fill(space)
    damage(space, 1)
    with space.writing() as writer:
        writer.compact(keep=ROWS[:3])
    assert space.read().rows.tolist() == [10, 12]


def test_a_vector_that_was_damaged_in_the_middle_is_absent_once_looked_at(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    fill(space)
    damage(space, 2)
    assert space.read(verify=True).find(ROWS, DIGESTS).tolist() == [0, 1, -1, 3, 4]


def test_what_a_killed_compaction_left_is_not_looked_at_and_goes(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    fill(space, 2)
    for name in ("keys-0002.bin", "vectors-0002.f32"):
        (space.folder / name).write_bytes(b"left behind")
    before = space.stamp()
    with space.writing() as writer:
        writer.append(ROWS[2:3], DIGESTS[2:3], VECTORS[2:3])
    assert space.stamp() != before
    assert space.read().rows.tolist() == [10, 11, 12]
    assert not (space.folder / "keys-0002.bin").exists()


def test_growth_is_noticed_without_reading(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    stamps = [space.stamp()]
    for at in (1, 2):
        fill(space, at)
        stamps.append(space.stamp())
    assert len(set(stamps)) == 3


def test_what_is_younger_is_read_alone_as_long_as_the_token_is_the_same(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    fill(space, 1)
    note = space.note()
    assert note is not None
    fill(space, 2)
    younger = space.read(since=1)
    assert younger.rows.tolist() == space.read().rows[1:].tolist()
    np.testing.assert_array_equal(younger.vectors, space.read().vectors[1:])
    assert space.read(since=99).rows.tolist() == []
    again = space.note()
    assert again is not None
    assert again.token == note.token != ""
    with space.writing() as writer:
        writer.compact(keep=ROWS[1:2])
    compacted = space.note()
    assert compacted is not None
    assert compacted.token != note.token


def test_a_space_of_an_older_version_is_given_a_token(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    fill(space, 2)
    path = space.folder / "space.json"
    path.write_text(
        json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "token"})
    )
    space.give_token()
    note = space.note()
    assert note is not None
    assert note.token
    assert space.read().rows.tolist() == ROWS[:2].tolist()


def test_a_wrong_dimension_is_refused_with_the_repair(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    fill(space, 1)
    with space.writing() as writer, pytest.raises(SpaceError, match="3 dimensions, the embedder made 4"):
        writer.append(ROWS[1:2], DIGESTS[1:2], np.ones((1, 4), np.float32))


def test_an_unreadable_note_is_refused_with_the_repair(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    fill(space, 1)
    (space.folder / "space.json").write_text("{")
    with pytest.raises(SpaceError, match="run build_index"):
        space.read()


def _hold(folder: Path, held: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with space_in(folder).writing():
        held.set()
        done.wait(PATIENCE_S)


def test_there_is_one_writer_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, done))
    other.start()
    try:
        assert held.wait(PATIENCE_S)
        with pytest.raises(SpaceError, match="Another process"), space_in(tmp_path).writing():
            pass
    finally:
        done.set()
        other.join(PATIENCE_S)


def test_a_space_notes_whoever_computed_its_vectors(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    by = ["openvino bfloat16", "openvino bfloat16", "torch float32", ""]
    for at, computed_by in enumerate(by):
        with space.writing() as writer:
            writer.append(ROWS[at : at + 1], DIGESTS[at : at + 1], VECTORS[at : at + 1], computed_by)
    with space.writing() as writer:
        writer.compact(keep=ROWS[:3])
    note = space.note()
    assert note is not None
    assert note.computed_by == ("openvino bfloat16", "torch float32")
    assert space.read().rows.tolist() == ROWS[:3].tolist()
