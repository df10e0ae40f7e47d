"""Pieces of work through clients: the same bits everywhere, one thread each, errors that name the piece, workers that die."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pickle
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from fisherstats.core.errors import TrainingDiverged, WorkerLost
from fisherstats.core.progress import progress_bar
from fisherstats.execution import tasks
from fisherstats.execution.tasks import Piece

distributed = pytest.importorskip("distributed")


# What the pieces do; at the top of the module, so that workers can import it.


def square(shared: Any, number: float, num_threads: int | None) -> Any:
    return shared @ shared * number


def threads(shared: Any, argument: Any, num_threads: int | None) -> tuple[int | None, int, int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return num_threads, max(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"), os.getpid()


def fail_at_three(shared: Any, number: int, num_threads: int | None) -> int:
    if number == 3:
        error = TrainingDiverged("the loss is inf")
        error.fitted = "what was done"
        raise error
    return number


def fail_twice(shared: Any, number: int, num_threads: int | None) -> int:
    """Leave a trace and fail from 1 on; 1 waits for another one to fail before it."""
    failed = Path(shared) / "failed"
    Path(shared, str(number)).touch()
    if number > 1:
        time.sleep(0.05)
        failed.touch()
        raise ValueError("a faster one")
    if number == 1:
        deadline = time.monotonic() + 10
        while num_threads == 1 and not failed.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        raise ValueError("the first one")
    return number


def odd_error(shared: Any, argument: Any, num_threads: int | None) -> None:
    raise UnicodeDecodeError("utf-8", b"x", 0, 1, "odd")


def die_once(shared: Any, number: int, num_threads: int | None) -> int:
    """Kill the process that computes the third piece, the first time."""
    mark = Path(shared)
    time.sleep(0.02)
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def die(shared: Any, number: int, num_threads: int | None) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def wait_for(shared: Any, number: int, num_threads: int | None) -> int:
    """Leave a trace and wait long."""
    Path(shared, str(number)).touch()
    time.sleep(0.2)
    return number


class CountsPickling:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getstate__(self) -> dict[str, Any]:
        Path(self.folder, f"pickled {time.monotonic_ns()}").touch()
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        Path(self.folder, f"unpickled {os.getpid()} {time.monotonic_ns()}").touch()


def nothing(shared: Any, argument: Any, num_threads: int | None) -> int:
    time.sleep(0.02)
    return os.getpid()


def pieces(count: int) -> list[Piece]:
    return [Piece(f"piece {number}", number) for number in range(count)]


class TestResults:
    def test_in_order_and_bit_for_bit(self, anywhere) -> None:
        matrix = np.random.default_rng(0).normal(size=(40, 40))
        found = tasks.in_order(square, matrix, pieces(7), client=anywhere)
        assert len(found) == 7
        for number, one in enumerate(found):
            np.testing.assert_array_equal(one, matrix @ matrix * number)

    def test_nothing_to_do(self, anywhere) -> None:
        assert tasks.in_order(square, 1.0, [], client=anywhere) == []

    def test_one_thread_in_workers(self, anywhere) -> None:
        for given, blas, process in tasks.in_order(threads, None, pieces(4), client=anywhere, num_threads=5):
            assert blas == 1
            assert given == (5 if anywhere is None else 1)
            if anywhere is None or isinstance(anywhere, concurrent.futures.ThreadPoolExecutor):
                assert process == os.getpid()
            else:
                assert process != os.getpid()

    def test_the_callers_blas_threads_come_back(self) -> None:
        before = threadpool_info()
        tasks.in_order(threads, None, pieces(2))
        assert threadpool_info() == before

    def test_what_all_pieces_need_is_pickled_once(self, anywhere, tmp_path) -> None:
        used = set(tasks.in_order(nothing, CountsPickling(tmp_path), pieces(12), client=anywhere))
        made = [path.name.split()[0] for path in tmp_path.iterdir()]
        if used == {os.getpid()}:
            assert made == []
        elif hasattr(anywhere, "scatter"):
            # From here to a worker, and from there to the other one.
            assert made.count("pickled") <= 2
            assert made.count("unpickled") <= 2
        else:
            assert made.count("pickled") == 1
            assert made.count("unpickled") == len(used)


class TestErrors:
    def test_the_piece_is_named_and_the_type_is_kept(self, anywhere) -> None:
        with pytest.raises(TrainingDiverged, match=r"^piece 3: the loss is inf$") as caught:
            tasks.in_order(fail_at_three, None, pieces(6), client=anywhere)
        assert caught.value.fitted == "what was done"
        assert isinstance(caught.value.__cause__, TrainingDiverged)
        assert str(caught.value.__cause__) == "the loss is inf"

    def test_the_first_in_order_is_raised_and_not_the_fastest(self, anywhere, tmp_path) -> None:
        with pytest.raises(ValueError, match=r"^piece 1: the first one$"):
            tasks.in_order(fail_twice, str(tmp_path), pieces(30), client=anywhere)
        assert (tmp_path / "failed").exists() == (anywhere is not None)
        assert len(list(tmp_path.iterdir())) < 20

    def test_what_is_before_a_failure_is_not_lost(self, anywhere) -> None:
        found = set()

        def work() -> None:
            for position, _ in tasks.completed(fail_at_three, None, pieces(30), client=anywhere):
                found.add(position)

        with pytest.raises(TrainingDiverged, match=r"^piece 3: "):
            work()
        assert {0, 1, 2} <= found

    def test_an_error_that_cannot_be_made_again(self) -> None:
        with pytest.raises(UnicodeError, match=r"^piece 0: 'utf-8' codec"):
            tasks.in_order(odd_error, None, pieces(1))

    def test_what_cannot_be_sent(self, processes) -> None:
        with pytest.raises((AttributeError, TypeError, pickle.PicklingError), match=r"^piece 0: .*pickle"):
            tasks.in_order(nothing, threading.Lock(), pieces(2), client=processes)

    def test_an_executor_that_is_shut_down(self) -> None:
        executor = concurrent.futures.ThreadPoolExecutor(1)
        executor.shutdown()
        with pytest.raises(WorkerLost, match=r"^piece 0: not computed, as `client` has stopped .* cannot schedule new futures"):
            tasks.in_order(nothing, None, pieces(2), client=executor)

    def test_no_piece_begins_after_an_error(self, tmp_path) -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            stream = tasks.completed(wait_for, str(tmp_path), pieces(30), client=executor)
            next(stream)
            stream.close()
        assert len(list(tmp_path.iterdir())) <= 3

    def test_what_has_not_begun_on_the_cluster_is_cancelled(self, client, tmp_path) -> None:
        stream = tasks.completed(wait_for, str(tmp_path), pieces(40), client=client)
        next(stream)
        stream.close()
        deadline = time.monotonic() + 10
        while any(client.processing().values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(list(tmp_path.iterdir())) < 20


class TestDeadWorkers:
    def test_a_killed_worker_changes_nothing(self, client, tmp_path) -> None:
        found = tasks.in_order(die_once, str(tmp_path / "mark"), pieces(30), client=client)
        assert (tmp_path / "mark").exists()
        assert found == [number**2 for number in range(30)]

    def test_the_only_worker_that_has_the_data_is_killed(self, tmp_path) -> None:
        with (
            distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster,
            distributed.Client(cluster) as client,
        ):
            found = tasks.in_order(die_once, str(tmp_path / "mark"), pieces(10), client=client)
        assert (tmp_path / "mark").exists()
        assert found == [number**2 for number in range(10)]

    def test_a_piece_that_kills_every_worker_is_named(self, client) -> None:
        with pytest.raises(WorkerLost, match=r"^piece 3: abandoned, as the workers that computed it died one after another"):
            tasks.in_order(die, None, pieces(5), client=client)

    def test_a_broken_pool_is_an_error_that_names_a_piece(self) -> None:
        message = r"^piece 3: not computed, as `client` has stopped or lost its workers \(BrokenProcessPool: "
        with (
            concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor,
            pytest.raises(WorkerLost, match=message),
        ):
            tasks.in_order(die, None, pieces(6), client=executor)


class TestProgress:
    def test_pieces_rate_and_time_left(self, anywhere, capsys) -> None:
        tasks.in_order(nothing, None, pieces(8), client=anywhere, progress=True)
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "0/8" in shown.err
        assert "piece/s" in shown.err

    def test_it_starts_at_what_is_done(self, capsys) -> None:
        with progress_bar(1, True, "piece") as bar:
            bar.expect(10, done=6)
            bar.update()
        assert "6/10" in capsys.readouterr().err

    def test_off_unless_asked(self, capsys) -> None:
        tasks.in_order(nothing, None, pieces(2))
        assert capsys.readouterr() == ("", "")
