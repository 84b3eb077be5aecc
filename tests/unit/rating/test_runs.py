"""Runs on disk: every key is found by all its bits, none that is not there, and no damage is passed over."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.identities.bloom import BITS_PER_KEY, Filter, Probes
from rating.identities.merging import merge, seal
from rating.identities.run import Rows, Run, RunRefused, starts_of, write_run
from rating.index import HashIndex, Keys

BITS = st.sampled_from([0, 16])
# Keys that agree in all but a few bits, at the places where the file cuts them.
EDGES = (0, 1, 2**16 - 1, 2**16, 2**31, 2**32 - 1, 2**32, 2**48 - 1, 2**48, 2**63, 2**64 - 1)
WORDS = st.sampled_from(EDGES) | st.integers(0, 2**64 - 1)
PAIRS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=40, unique=True)


def keys_of(pairs: list[tuple[int, int]]) -> Keys:
    return np.array(pairs, dtype=np.uint64).reshape(-1, 2)


def random_keys(count: int, seed: int = 1) -> Keys:
    return np.random.default_rng(seed).integers(0, 2**64, (count, 2), dtype=np.uint64)


def contents_of(keys: Keys) -> np.ndarray:
    return (keys[:, 0] ^ keys[:, 1]).astype(np.uint32)


def write(folder: Path, keys: Keys, bits: int | None = None, part: int = 10**9) -> Run:
    rows = Rows(keys[:, 0], keys[:, 1], contents_of(keys)).ordered()
    parts = (rows.cut(begin, begin + part) for begin in range(0, len(keys), part))
    return write_run(folder, 7, starts_of(rows.leads), parts, bits)


def check(run: Run, held: Keys, others: Keys) -> None:
    found, contents = run.find(held)
    assert found.all()
    assert (contents == contents_of(held)).all()
    assert not run.find(others)[0].any()


@given(PAIRS, PAIRS, BITS, st.integers(1, 50))
@settings(deadline=None, max_examples=50)  # the disk decides how long it takes
def test_exactly_what_was_written_is_found(
    tmp_path_factory: pytest.TempPathFactory, held: list, asked: list, bits: int, part: int
) -> None:
    keys, others = keys_of(held), keys_of([pair for pair in asked if pair not in held])
    run = write(tmp_path_factory.mktemp("runs"), keys, bits, part)
    check(run, keys, others)
    again = Run(run.path)
    check(again, keys, others)
    for begin, end in itertools.pairwise(sorted({0, len(keys) // 3, len(keys) // 2, len(keys)})):
        rows = again.read(begin, end)
        assert (rows.contents == contents_of(np.stack([rows.leads, rows.others], axis=1))).all()
    rows = again.read(0, len(keys))
    assert sorted(zip(rows.leads.tolist(), rows.others.tolist(), strict=True)) == sorted(held)
    assert rows.leads.tolist() == sorted(lead for lead, _ in held)
    assert (again.starts() == starts_of(rows.leads)).all()


@given(st.lists(PAIRS, min_size=2, max_size=4), BITS)
@settings(deadline=None, max_examples=40)
def test_a_merged_run_holds_what_its_parts_held(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[tuple[int, int]]], bits: int
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    seen: set[tuple[int, int]] = set()
    runs = []
    for part in parts:
        new = [pair for pair in part if pair not in seen]
        seen.update(new)
        if new:
            runs.append(write(folder, keys_of(new), bits))
    keys = keys_of(sorted(seen))
    pauses: list[None] = []
    others = [(lead ^ 1 << 40, other) for lead, other in sorted(seen) if (lead ^ 1 << 40, other) not in seen]
    check(merge(folder, 7, runs, lambda: pauses.append(None)), keys, keys_of(others))
    assert pauses


def test_a_table_becomes_a_run(tmp_path: Path) -> None:
    keys = random_keys(5000)
    run = seal(tmp_path, 3, HashIndex.of(keys, contents_of(keys)))
    assert (run.bucket, run.count, run.radix_bits) == (3, 5000, 0)
    check(run, keys, random_keys(5000, seed=2))


def test_a_large_run_takes_less_than_19_bytes_a_key_on_disk_and_less_than_3_in_memory(tmp_path: Path) -> None:
    keys = random_keys(400_000)
    runs = [write(tmp_path, keys[a : a + 50_000]) for a in range(0, len(keys), 50_000)]
    run = merge(tmp_path, 7, runs, lambda: None)
    assert run.radix_bits == 16
    assert runs[0].radix_bits == 0
    check(run, keys, random_keys(400_000, seed=2))
    assert run.file_bytes == run.path.stat().st_size < 19 * run.count
    assert run.filter.nbytes < 3 * run.count


def test_the_order_of_the_parts_does_not_show(tmp_path: Path) -> None:
    keys = random_keys(1000)
    parts = [write(tmp_path, keys[a : a + 250]) for a in range(0, 1000, 250)]
    assert merge(tmp_path, 7, parts, lambda: None).name == merge(tmp_path, 7, parts[::-1], lambda: None).name


def test_a_filter_forgets_no_key_and_lets_few_others_through() -> None:
    keys, others = random_keys(200_000)[:, 0], random_keys(200_000, seed=2)[:, 0]
    filter = Filter(len(keys))
    for part in np.split(np.sort(keys), [10, 1000, 77_777]):
        filter.add(part)
    assert sorted(filter.rows(Probes(keys)).tolist()) == list(range(len(keys)))
    assert len(filter.rows(Probes(others))) < 0.005 * len(others)
    assert filter.nbytes * 8 <= BITS_PER_KEY * len(keys) + 64


@pytest.mark.parametrize("place", [0, 8, 10, 20, 30, 64, 100_000, 262_000])
def test_damage_to_what_a_search_rests_on_is_refused_by_name(tmp_path: Path, place: int) -> None:
    run = write(tmp_path, random_keys(1000), 16)
    raw = bytearray(run.path.read_bytes())
    raw[place] ^= 0x41
    run.path.write_bytes(raw)
    with pytest.raises(RunRefused, match=run.name):
        Run(run.path)


@pytest.mark.parametrize("length", [0, 10, 63, 64, 5000, -1])
def test_a_torn_file_is_refused_by_name(tmp_path: Path, length: int) -> None:
    run = write(tmp_path, random_keys(1000), 0)
    run.path.write_bytes(run.path.read_bytes()[:length])
    with pytest.raises(RunRefused, match=f"{run.name} are damaged.*remove the file"):
        Run(run.path)


def test_a_run_of_a_newer_format_says_so(tmp_path: Path) -> None:
    run = write(tmp_path, random_keys(10))
    raw = bytearray(run.path.read_bytes())
    raw[8] = 9
    run.path.write_bytes(raw)
    with pytest.raises(RunRefused, match="format version 9, this program reads up to 1"):
        Run(run.path)
