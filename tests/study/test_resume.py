"""Studies that are killed and gone on with: the same bits, refusals that say what has changed, errors that lose nothing."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
import xarray as xr

from fisherstats.study import plan, results_store, runner

for needed in ("sklearn", "matplotlib", "jinja2", "tqdm", "netCDF4", "zarr", "dask"):
    pytest.importorskip(needed)

from tests.study.resuming import PIECES, Stopped, command, files, killed, marks, part, run  # noqa: E402

pytestmark = pytest.mark.usefixtures("small_groups")


class TestStore:
    def test_it_changes_nothing(self, whole) -> None:
        assert whole[0].identical(run())

    def test_groups_do_not_change_the_estimates(self, whole, monkeypatch) -> None:
        monkeypatch.setattr(plan, "_MOST_REPLICATES", 500)
        together = run()
        np.testing.assert_array_equal(together["estimates/estimate"], whole[0]["estimates/estimate"])
        xr.testing.assert_allclose(together, whole[0], rtol=1e-14)

    def test_readers_see_the_tree_in_it(self, whole) -> None:
        tree, store = whole
        with xr.open_datatree(store, engine="zarr") as opened:
            for name in tree.children:
                assert opened[name].to_dataset().load().identical(tree[name].to_dataset())
            assert opened.attrs == tree.attrs
            assert set(opened.children) - set(tree.children) == {"layer_variance", "progress", "replicates"}
            assert opened["replicates"].sizes["group"] == 6
            assert opened["replicates/n_draws"].values.tolist() == [1, 1, 1, 3, 3, 3]
            assert opened["replicates/replicates"].values.tolist() == [2] * 6

    def test_a_second_store_is_the_same_in_every_file(self, whole, tmp_path) -> None:
        run(tmp_path / "again")
        assert files(tmp_path / "again") == files(whole[1])

    def test_nothing_else_is_left(self, whole) -> None:
        assert [path.name for path in whole[1].parent.iterdir()] == ["store"]


@pytest.mark.usefixtures("no_figures")
class TestResume:
    @pytest.mark.parametrize("pieces", [0, 1, 7, PIECES, PIECES + 1])
    def test_stopped_between_pieces(self, tmp_path, whole, pieces) -> None:
        store = part(tmp_path / "store", pieces)
        assert np.count_nonzero(marks(store)) == pieces
        assert run(store).identical(whole[0])
        assert files(store) == files(whole[1])

    def test_only_what_is_missing_is_computed(self, tmp_path, monkeypatch) -> None:
        store = part(tmp_path / "store", 11)
        computed = []
        measure = plan.measure

        def counted(measured: Any, step: plan.Step, num_threads: int | None) -> xr.Dataset:
            computed.append(step.name)
            return measure(measured, step, num_threads)

        def no_training(*arguments: Any) -> None:
            raise AssertionError("trained again")

        monkeypatch.setattr(plan, "measure", counted)
        monkeypatch.setattr("fisherstats.study.setup._train", no_training)
        run(store)
        assert computed == ["replicates, N = 1"] + ["replicates, N = 3"] * 3

    def test_stopped_between_the_results_and_their_mark(self, tmp_path, whole, monkeypatch) -> None:
        for stop_at in (0, 6, PIECES):
            store = tmp_path / f"store {stop_at}"
            with pytest.MonkeyPatch.context() as patched:
                mark = results_store.Store._mark

                def unmarked(self: Any, piece: int, digest: Any, stop_at: int = stop_at, mark: Any = mark) -> None:
                    if piece == stop_at:
                        raise Stopped
                    mark(self, piece, digest)

                patched.setattr(results_store.Store, "_mark", unmarked)
                with pytest.raises(Stopped):
                    run(store)
            assert marks(store)[stop_at] == 0
            assert run(store).identical(whole[0])
            assert files(store) == files(whole[1])

    def test_torn_files_of_a_kill_are_taken_away(self, tmp_path, whole) -> None:
        store = part(tmp_path / "store", 12)
        (store / "replicates" / "squared_deviation" / f"3.0.{'0' * 32}.partial").write_bytes(b"half of i")
        (store / "progress" / "mark" / "13").write_bytes(b"")  # where files are not written by renaming
        assert run(store).identical(whole[0])
        assert files(store) == files(whole[1])

    def test_a_study_that_is_complete_is_not_computed_again(self, whole, tmp_path, monkeypatch) -> None:
        tree, store = whole
        place = tmp_path / "out"
        assert run(store, out=place).identical(tree)
        before = files(place)

        def refused(*arguments: Any) -> None:
            raise AssertionError("done again")

        for name in ("measure", "_replicates"):
            monkeypatch.setattr(plan, name, refused)
        monkeypatch.setattr(runner, "_write", refused)
        monkeypatch.setattr(runner, "_figures", refused)
        assert run(store, out=place).identical(tree)
        assert files(place) == before

    def test_progress_starts_at_what_is_done(self, tmp_path, capsys) -> None:
        store = part(tmp_path / "store", 9)
        capsys.readouterr()
        run(store, progress=True)
        shown = capsys.readouterr().err
        assert f"{1 + 9}/{1 + PIECES}" in shown
        assert f"{9}/{1 + PIECES}" not in shown.replace(f"1{9}/", "")


class TestKilled:
    """Real processes and SIGKILL."""

    def test_a_few_times(self, tmp_path, whole) -> None:
        store = tmp_path / "store"
        # At the least the 3 and the 5 pieces that are written before the last write begins are there.
        for writes, delay in ((4, 0.01), (6, 0.03)):
            assert killed(store, writes, delay)
        assert 8 <= np.count_nonzero(marks(store)) < PIECES
        assert run(store).identical(whole[0])
        assert files(store) == files(whole[1])

    @pytest.mark.validation
    def test_twenty_times(self, tmp_path, whole) -> None:
        """Three studies, each killed again and again at random moments of training, computing and writing."""
        dice = random.Random(7)
        kills = 0
        for number in range(3):
            store, out = tmp_path / f"store {number}", tmp_path / f"out {number}"
            while killed(store, dice.randrange(5) if store.exists() else dice.randrange(2), dice.uniform(0, 0.15), out):
                kills += 1
            assert files(store) == files(whole[1])
            with xr.open_datatree(out / "study.nc", engine="netcdf4") as opened:
                assert opened.load().identical(whole[0])
            assert sorted(path.name for path in out.iterdir()) == [".fisherstats", "report.html", "study.nc", "study.zarr"]
        assert kills >= 20
        assert len(list(tmp_path.iterdir())) == 6

    def test_a_killed_run_leaves_no_lock_and_two_runs_refuse_each_other(self, tmp_path, whole) -> None:
        store = tmp_path / "store"
        with results_store.exclusive(store):
            done = subprocess.run(command(store), capture_output=True, text=True, timeout=120)
            assert done.returncode == 1
            assert f"`store` must not be in use, got '{store}', which another run is writing; wait until it ends." in done.stderr
        waiting = "import sys, time\nfrom pathlib import Path\nfrom fisherstats.study import results_store\n" + (
            "with results_store.exclusive(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(100)"
        )
        holder = subprocess.Popen([sys.executable, "-c", waiting, str(store)], stdout=subprocess.PIPE)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="`store` must not be in use"):
            run(store)
        holder.kill()
        holder.communicate()
        assert run(store).identical(whole[0])
        assert [path.name for path in tmp_path.iterdir()] == ["store"]

    def test_two_threads_refuse_each_other(self, tmp_path) -> None:
        found: list[BaseException] = []

        def other() -> None:
            try:
                run(tmp_path / "store")
            except ValueError as error:
                found.append(error)

        with results_store.exclusive(tmp_path / "store"):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        assert "must not be in use" in str(found[0])
