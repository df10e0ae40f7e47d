"""How inputs are cut into blocks, whatever holds them."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest

from fisherstats import execution
from fisherstats.core.validation import inputs


@pytest.mark.parametrize(
    "cut", [execution.Cut(16), execution.Cut(48), execution.Cut(128), execution.Cut(32, 2), execution.Cut(16, 4)]
)
@pytest.mark.parametrize("chunks", [None, (5, 7, 100, 1, 87), (200,), (64, 136)])
def test_blocks_cover_the_rows_in_order(cut, chunks):
    data = np.arange(400.0).reshape(200, 2)
    source = data if chunks is None else dask.array.from_array(data, chunks=(chunks, 2))
    read = execution.Rows(source, np.dtype(np.float64))
    blocks = [(read.block(piece, first), first) for piece, first in read.pieces(cut)]
    full = 200 // cut.span * cut.group
    sizes = [cut.rows] * full + cut.sizes(200 % cut.span)
    assert [len(block) for block, _ in blocks] == sizes
    assert [first for _, first in blocks] == np.cumsum([0, *sizes[:-1]]).tolist()
    assert all(block.flags.c_contiguous for block, _ in blocks)
    np.testing.assert_array_equal(np.concatenate([block for block, _ in blocks]), data)


@pytest.mark.parametrize("rows", [16, 32, 128, 256])
@pytest.mark.parametrize("group", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("least", [16, 96])
def test_sizes_of_blocks(rows, group, least):
    cut = execution.Cut(rows, group, least)
    for n in (1, 15, 16, 17, 31, 32, 33, 100, 128, 129, 191, 192, 300, 1000, 2048, 5000):
        source = execution.Rows(np.zeros((n, 1)), np.dtype(np.float64))
        found = [(len(piece), first) for piece, first in source.pieces(cut)]
        sizes, firsts = (list(column) for column in zip(*found, strict=True))
        assert firsts == np.cumsum([0, *sizes[:-1]]).tolist()
        assert source.n_blocks(cut) == len(sizes)
        assert sum(sizes) == n
        assert min(sizes) > 0
        assert max(sizes) <= rows
        assert not any(first % execution.STREAM_ROWS for first in firsts)
        # A full group stays as it is when inputs are added.
        whole = n // cut.span * group
        assert sizes[:whole] == [rows] * whole
        last = sizes[whole:]
        assert len(last) <= group
        if len(last) > 1:
            assert group % 2 or len(last) % 2 == 0 or len(last) == -(-sum(last) // execution.STREAM_ROWS)
            # A random stream is not cut, and the last one may have a single input.
            assert max(last) - min(last) < 2 * execution.STREAM_ROWS
        elif last and group > 1:
            assert last[0] < 2 * least


@pytest.mark.parametrize(
    ("cut", "n", "sizes"),
    [
        (execution.Cut(256, 2, 96), 100, [100]),
        (execution.Cut(256, 2, 96), 191, [191]),
        (execution.Cut(256, 2, 96), 192, [96, 96]),
        (execution.Cut(256, 2, 96), 300, [144, 156]),
        (execution.Cut(256, 2, 96), 1000, [256, 256, 240, 248]),
        (execution.Cut(128, 2, 24), 100, [48, 52]),
        (execution.Cut(128, 2, 24), 300, [128, 128, 44]),
        (execution.Cut(512, 4, 96), 2048 + 1100, [512, 512, 512, 512, 272, 272, 272, 284]),
        (execution.Cut(128), 300, [128, 128, 44]),
    ],
)
def test_the_last_group_is_shared_out(cut, n, sizes):
    rows = execution.Rows(np.zeros((n, 1)), np.dtype(np.float64))
    assert [len(piece) for piece, _ in rows.pieces(cut)] == sizes


@pytest.mark.parametrize("sizes", [[700], [1, 699], [100] * 7, [255, 2, 443]])
def test_batches_are_cut_as_the_same_rows_in_memory(sizes):
    x = np.arange(700.0)[:, None]
    batches = execution.Batches(np.split(x, np.cumsum(sizes)[:-1]), (1,), x.dtype)
    for cut in (execution.Cut(64), execution.Cut(64, 4), execution.Cut(256, 2, 96), execution.Cut(512, 4, 96)):
        expected = list(execution.Rows(x, x.dtype).pieces(cut))
        found = list(execution.Rows(batches, x.dtype).pieces(cut))
        assert [first for _, first in found] == [first for _, first in expected]
        for (piece, _), (other, _) in zip(found, expected, strict=True):
            np.testing.assert_array_equal(piece, other)


def test_rows_in_memory_are_looked_at_once_and_those_of_a_file_in_every_pass(tmp_path, monkeypatch):
    looked = []
    finite_block = inputs.finite_block
    monkeypatch.setattr(inputs, "finite_block", lambda block, first: looked.append(len(block)) or finite_block(block, first))
    x = np.random.default_rng(0).normal(size=(100, 3))
    np.save(tmp_path / "x.npy", x)
    for source, times in ((x, 1), (np.load(tmp_path / "x.npy", mmap_mode="r"), 3)):
        looked.clear()
        rows = execution.Rows(source, np.dtype(np.float64))
        for _ in range(3):
            (total,) = execution.at_once(execution.mean(lambda block, first: [block.sum(axis=0)], rows, 16))
            np.testing.assert_allclose(total, x.mean(axis=0), rtol=1e-13)
        assert sum(looked) == times * len(x)


def test_a_pass_that_failed_has_not_looked_at_everything():
    x = np.ones((100, 3))
    x[70, 1] = np.nan
    rows = execution.Rows(x, np.dtype(np.float64))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"`x` must be finite, got nan at index \(70, 1\)"):
            execution.at_once(execution.mean(lambda block, first: [block.sum(axis=0)], rows, 16))
    with pytest.raises(ValueError, match=r"at index \(70, 1\)"):
        rows.look(2)
