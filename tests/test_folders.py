"""Folders that are there as a whole or not at all, whatever ends the making of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fisherstats import folders

KINDS = [{"alone": alone, "replacing": replacing} for alone in (False, True) for replacing in (False, True)]


def make(place: Path, text: str = "new", **kind: bool) -> None:
    with folders.whole(place, **kind) as new:
        new.mkdir()
        (new / "file").write_text(text)


def found(path: Path) -> list[str]:
    return sorted(one.relative_to(path).as_posix() for one in path.rglob("*"))


@pytest.mark.parametrize("kind", KINDS)
class TestWhole:
    def test_nothing_is_there_before_it_is_done(self, kind, tmp_path) -> None:
        place = tmp_path / "above" / "place"
        with folders.whole(place, **kind) as new:
            new.mkdir()
            (new / "file").write_text("new")
            assert not place.exists()
        assert found(tmp_path) == ["above", "above/place", "above/place/file"]

    @pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt, SystemExit])
    def test_nothing_is_left_of_a_failure(self, kind, failure, tmp_path) -> None:
        def fail() -> None:
            with folders.whole(tmp_path / "place", **kind) as new:
                new.mkdir()
                raise failure

        with pytest.raises(failure):
            fail()
        assert found(tmp_path) == []

    def test_who_writes_on_for_a_moment_leaves_nothing(self, kind, tmp_path) -> None:
        """As the threads of a zarr store do when one of them has failed."""
        written = []

        def write(new: Path) -> None:
            for _ in range(4):
                time.sleep(0.02)
                with contextlib.suppress(OSError):
                    new.mkdir(exist_ok=True)
                    (new / "late").touch()
                    written.append(new)

        def fail() -> None:
            with folders.whole(tmp_path / "place", **kind) as new:
                thread.append(threading.Thread(target=write, args=[new]))
                thread[0].start()
                raise OSError

        thread: list[threading.Thread] = []
        with pytest.raises(OSError):  # noqa: PT011
            fail()
        thread[0].join()
        assert written
        assert found(tmp_path) == []

    def test_what_stands_there_gives_way_only_if_it_may(self, kind, tmp_path) -> None:
        make(tmp_path / "place", "earlier")
        if kind["replacing"]:
            make(tmp_path / "place", **kind)
        else:
            with pytest.raises(OSError, match=r"not empty|exists"):
                make(tmp_path / "place", **kind)
        assert (tmp_path / "place" / "file").read_text() == ("new" if kind["replacing"] else "earlier")
        assert found(tmp_path) == ["place", "place/file"]

    def test_a_failed_move_brings_back_what_stood_there(self, kind, tmp_path) -> None:
        make(tmp_path / "place", "earlier")
        with pytest.raises(OSError, match="No such file"), folders.whole(tmp_path / "place", **kind):
            pass  # nothing was made
        assert (tmp_path / "place" / "file").read_text() == "earlier"
        assert found(tmp_path) == ["place", "place/file"]


class TestKilled:
    """Everything that a kill can leave is cleared away, or put back, by whoever makes the same folder next and is alone."""

    PROGRAM = """
import os, pathlib, signal, sys
from fisherstats import folders
place, moves = pathlib.Path(sys.argv[1]), int(sys.argv[2])
rename = pathlib.Path.rename
def counted(self, to):
    global moves
    if moves == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    moves -= 1
    return rename(self, to)
pathlib.Path.rename = counted
if moves == 2:
    folders._remove = lambda folder: "earlier" in folder.name and folder.exists() and os.kill(os.getpid(), signal.SIGKILL)
with folders.whole(place, alone=True, replacing=True) as new:
    new.mkdir()
    (new / "file").write_text("killed")
"""

    @pytest.mark.parametrize(("moves", "left"), [(0, "earlier"), (1, None), (2, "killed")])
    def test_at_each_move(self, moves, left, tmp_path) -> None:
        place = tmp_path / "place"
        make(place, "earlier")
        done = subprocess.run([sys.executable, "-c", self.PROGRAM, str(place), str(moves)], timeout=120)
        assert done.returncode == -signal.SIGKILL
        assert (place.exists() and (place / "file").read_text()) == (left or False)
        assert len(list(tmp_path.iterdir())) == 2
        with folders.whole(place, alone=True, replacing=True) as new:
            assert (place / "file").read_text() == (left or "earlier")
            assert found(tmp_path) == ["place", "place/file"]
            new.mkdir()
        make(place, alone=True, replacing=True)
        assert (place / "file").read_text() == "new"
        assert found(tmp_path) == ["place", "place/file"]


class TestInterrupts:
    @pytest.fixture(autouse=True)
    def interruptible(self):
        """A process in the background may have been told to ignore interrupts."""
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, previous)

    def interrupt(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def test_they_wait_until_they_are_asked_for(self) -> None:
        steps = []

        def work() -> None:
            with folders.interrupts_held() as stop_if_interrupted:
                stop_if_interrupted()
                self.interrupt()
                steps.append("held")
                stop_if_interrupted()
                steps.append("too far")

        with pytest.raises(KeyboardInterrupt):
            work()
        assert steps == ["held"]

    def test_ignored_ones_stay_ignored(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with folders.interrupts_held() as stop_if_interrupted:
            self.interrupt()
            stop_if_interrupted()

    def test_they_wait_until_the_outermost_block_ends(self) -> None:
        steps = []

        def work() -> None:
            with folders.interrupts_held():
                with folders.interrupts_held():
                    self.interrupt()
                    steps.append("inner")
                steps.append("outer")
            steps.append("too far")

        with pytest.raises(KeyboardInterrupt):
            work()
        assert steps == ["inner", "outer"]

    def test_they_stop_no_clean_up(self, tmp_path, monkeypatch) -> None:
        remove = shutil.rmtree

        def interrupted(*given, **more):
            self.interrupt()
            remove(*given, **more)

        def fail() -> None:
            with folders.whole(tmp_path / "place") as new:
                new.mkdir()
                monkeypatch.setattr(shutil, "rmtree", interrupted)
                raise ValueError

        with pytest.raises(KeyboardInterrupt):
            fail()
        assert found(tmp_path) == []

    def test_other_threads_hold_none(self) -> None:
        def other() -> None:
            with folders.interrupts_held() as stop_if_interrupted:
                stop_if_interrupted()

        before = signal.getsignal(signal.SIGINT)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGINT) is before
