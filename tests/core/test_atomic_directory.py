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

from fisherstats.core import atomic_directory

KINDS = [{"replacing": replacing} for replacing in (False, True)]


def make(place: Path, text: str = "new", **kind: bool) -> None:
    with atomic_directory.whole(place, **kind) as new:
        new.mkdir()
        (new / "file").write_text(text)
        atomic_directory.sign(new)


def found(path: Path) -> list[str]:
    return sorted(one.relative_to(path).as_posix() for one in path.rglob("*") if one.name != atomic_directory.MARK)


@pytest.mark.parametrize("kind", KINDS)
class TestWhole:
    def test_nothing_is_there_before_it_is_done(self, kind, tmp_path) -> None:
        place = tmp_path / "above" / "place"
        with atomic_directory.whole(place, **kind) as new:
            new.mkdir()
            (new / "file").write_text("new")
            assert not place.exists()
        assert found(tmp_path) == ["above", "above/place", "above/place/file"]

    @pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt, SystemExit])
    def test_nothing_is_left_of_a_failure(self, kind, failure, tmp_path) -> None:
        def fail() -> None:
            with atomic_directory.whole(tmp_path / "place", **kind) as new:
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
            with atomic_directory.whole(tmp_path / "place", **kind) as new:
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
        with pytest.raises(OSError, match="No such file"), atomic_directory.whole(tmp_path / "place", **kind):
            pass  # nothing was made
        assert (tmp_path / "place" / "file").read_text() == "earlier"
        assert found(tmp_path) == ["place", "place/file"]


class TestKilled:
    """Everything that a kill can leave is cleared away, or put back, by whoever makes the same folder next."""

    PROGRAM = """
import os, pathlib, signal, sys
from fisherstats.core import atomic_directory
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
    atomic_directory.remove_files = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
with atomic_directory.whole(place, replacing=True) as new:
    new.mkdir()
    (new / "file").write_text("killed")
    atomic_directory.sign(new)
"""

    @pytest.mark.parametrize(("moves", "left"), [(0, "earlier"), (1, None), (2, "killed")])
    def test_at_each_move(self, moves, left, tmp_path) -> None:
        place = tmp_path / "place"
        make(place, "earlier")
        done = subprocess.run([sys.executable, "-c", self.PROGRAM, str(place), str(moves)], timeout=120)
        assert done.returncode == -signal.SIGKILL
        assert (place.exists() and (place / "file").read_text()) == (left or False)
        assert len(list(tmp_path.glob(".fisherstats-*"))) == 1
        make(tmp_path / "another")  # clears away nothing of another place
        assert len(list(tmp_path.glob(".fisherstats-*"))) == 1
        shutil.rmtree(tmp_path / "another")
        with atomic_directory.whole(place, replacing=True) as new:
            assert (place / "file").read_text() == (left or "earlier")
            assert len(list(tmp_path.glob(".fisherstats-*"))) == 1
            new.mkdir()
        make(place, replacing=True)
        assert (place / "file").read_text() == "new"
        assert found(tmp_path) == ["place", "place/file"]

    def test_what_somebody_is_making_is_left_to_him(self, tmp_path) -> None:
        program = self.PROGRAM.replace("new.mkdir()", "new.mkdir(); print(new, flush=True); import time; time.sleep(100)")
        maker = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "place"), "9"], stdout=subprocess.PIPE, text=True)
        assert maker.stdout is not None
        new = Path(maker.stdout.readline().strip())
        with atomic_directory.whole(tmp_path / "place") as mine:
            mine.mkdir()
            make(tmp_path / "place")  # a second one in this process
            assert mine.is_dir()
            shutil.rmtree(tmp_path / "place")
        assert new.is_dir()
        maker.kill()
        maker.communicate()
        make(tmp_path / "place", replacing=True)
        assert not new.exists()
        assert found(tmp_path) == ["place", "place/file"]


class TestStrangers:
    """What is not ours stays, whatever it is called and whenever it comes."""

    def replace(self, place: Path) -> None:
        with pytest.raises(
            ValueError, match=r"`out` must be empty or hold an earlier study, .* with '[\w./]+'.* in it, which was not"
        ):
            make(place, replacing=True)

    @pytest.mark.parametrize("name", ["notes.txt", "sub/notes.txt", ".hidden", "sub/empty/"])
    def test_in_a_folder_of_ours(self, name, tmp_path) -> None:
        place = tmp_path / "place"
        make(place, "earlier")
        (place / name).parent.mkdir(exist_ok=True)
        if name.endswith("/"):
            (place / name).mkdir(parents=True)
        else:
            (place / name).write_text("all of it")
        before = found(tmp_path)
        self.replace(place)
        assert found(tmp_path) == before

    def test_links_and_changed_files(self, tmp_path) -> None:
        place = tmp_path / "place"
        make(place, "earlier")
        (place / "link").symlink_to(tmp_path / "nowhere")
        self.replace(place)
        (place / "link").unlink()
        (place / "file").write_text("edited")
        self.replace(place)
        assert (place / "file").read_text() == "edited"
        (place / "file").unlink()
        (place / "file").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").write_text("earlier")
        self.replace(place)
        assert (tmp_path / "elsewhere").read_text() == "earlier"

    @pytest.mark.parametrize("mark", [None, "", "{", "[1]", '{"format": "another"}', '{"format": "fisherstats folder 1"}'])
    def test_without_our_mark(self, mark, tmp_path) -> None:
        place = tmp_path / "place"
        place.mkdir()
        (place / "file").write_text("mine")
        if mark is not None:
            (place / atomic_directory.MARK).write_text(mark)
        self.replace(place)
        assert (place / "file").read_text() == "mine"

    def test_that_come_while_it_is_made(self, tmp_path) -> None:
        place = tmp_path / "place"
        make(place, "earlier")

        def work() -> None:
            with atomic_directory.whole(place, replacing=True) as new:
                new.mkdir()
                (place / "late").write_text("all of it")

        with pytest.raises(ValueError, match="with 'late' in it, which was not written by a study"):
            work()
        assert found(tmp_path) == ["place", "place/file", "place/late"]
        assert (place / "file").read_text() == "earlier"

    def test_neighbours(self, tmp_path) -> None:
        """Names that we use, or used once, beside the place."""
        for name in (".place.partial", ".place.earlier", ".fisherstats-mine", f".fisherstats-{'0' * 16}"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "thesis.tex").write_text("all of it")
        (tmp_path / ".fisherstats-file").write_text("mine")
        (tmp_path / ".fisherstats-link").symlink_to(tmp_path / "nowhere")
        (tmp_path / f".fisherstats-{'0' * 16}" / atomic_directory.MARK).write_text(
            '{"format": "fisherstats folder 1", "token": "1111111111111111", "place": "place"}'
        )
        before = found(tmp_path)
        make(tmp_path / "place")
        make(tmp_path / "place", replacing=True)
        assert found(tmp_path) == sorted([*before, "place", "place/file"])

    def test_an_empty_folder_gives_way(self, tmp_path) -> None:
        (tmp_path / "place").mkdir()
        make(tmp_path / "place", replacing=True)
        assert found(tmp_path) == ["place", "place/file"]

    def test_removal_takes_what_is_listed(self, tmp_path) -> None:
        make(tmp_path / "place")
        (tmp_path / "place" / "other").write_text("mine")
        assert atomic_directory.intact(tmp_path / "place")
        atomic_directory.remove_files(tmp_path / "place", ["file", atomic_directory.MARK, "absent"])
        assert [path.name for path in (tmp_path / "place").iterdir()] == ["other"]
        assert not atomic_directory.intact(tmp_path / "place")


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
            with atomic_directory.interrupts_held() as stop_if_interrupted:
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
        with atomic_directory.interrupts_held() as stop_if_interrupted:
            self.interrupt()
            stop_if_interrupted()

    def test_they_wait_until_the_outermost_block_ends(self) -> None:
        steps = []

        def work() -> None:
            with atomic_directory.interrupts_held():
                with atomic_directory.interrupts_held():
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
            with atomic_directory.whole(tmp_path / "place") as new:
                new.mkdir()
                monkeypatch.setattr(shutil, "rmtree", interrupted)
                raise ValueError

        with pytest.raises(KeyboardInterrupt):
            fail()
        assert found(tmp_path) == []

    def test_other_threads_hold_none(self) -> None:
        def other() -> None:
            with atomic_directory.interrupts_held() as stop_if_interrupted:
                stop_if_interrupted()

        before = signal.getsignal(signal.SIGINT)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGINT) is before
