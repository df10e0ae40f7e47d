"""Stores that were damaged while nobody looked: the files of the study that nothing has damaged, or a refusal."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

for needed in ("sklearn", "matplotlib", "jinja2", "tqdm", "netCDF4", "zarr", "dask"):
    pytest.importorskip(needed)

from fisherstats.study import results_store  # noqa: E402
from tests.study.resuming import PIECES, part, run  # noqa: E402

pytestmark = pytest.mark.usefixtures("small_groups")


def flip(file: Path, dice: random.Random) -> None:
    data = bytearray(file.read_bytes())
    if data:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    file.write_bytes(data)


def cut(file: Path, dice: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: dice.randrange(file.stat().st_size + 1)])


def edit(file: Path, dice: random.Random) -> None:
    """Change one digit or word, so that what is read is still in order."""
    text = file.read_bytes()
    pairs = [(b"1", b"2"), (b"0", b"1"), (b"score", b"scare"), (b"param", b"parem"), (b"true", b"null"), (b"<f8", b"<i8")]
    found = [(text.find(old), old, new) for old, new in pairs if old in text]
    if found:
        at, old, new = dice.choice(found)
        text = text[:at] + new + text[at + len(old) :]
    file.write_bytes(text)


def remove(file: Path, dice: random.Random) -> None:
    file.unlink()


def rename(file: Path, dice: random.Random) -> None:
    file.rename(file.with_name(file.name + "x"))


def swap(file: Path, dice: random.Random) -> None:
    other = dice.choice(sorted(path for path in file.parent.iterdir() if path.is_file()))
    mine, its = file.read_bytes(), other.read_bytes()
    file.write_bytes(its)
    other.write_bytes(mine)


def add(file: Path, dice: random.Random) -> None:
    shutil.copytree(file.parent, file.parent.with_name(file.parent.name + "2"), dirs_exist_ok=True)


def remove_folder(file: Path, dice: random.Random) -> None:
    shutil.rmtree(file.parent)


DAMAGES: list[Callable[[Path, random.Random], None]] = [flip, flip, cut, edit, edit, edit, remove, rename, swap, add]
DAMAGES.append(remove_folder)


def written(tree: xr.DataTree) -> list[tuple[str, object]]:
    """Return all that goes to the files of a study."""
    return [
        (f"{node.path}/{name}", (variable.dims, variable.values.tobytes(), variable.dtype.str, variable.attrs))
        for node in tree.subtree
        for name, variable in node.variables.items()
    ] + [(node.path, node.attrs) for node in tree.subtree]


@pytest.fixture(scope="module")
def stores(whole, tmp_path_factory) -> list[Path]:
    """A store that is complete and one that is not."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context():
        return [whole[1], part(folder / "begun", PIECES - 3)]


def trial(seed: int, stores: list[Path], whole: xr.DataTree, folder: Path) -> str:
    dice = random.Random(seed)
    store = shutil.copytree(dice.choice(stores), folder / f"store {seed}")
    file = dice.choice(sorted(path for path in store.rglob("*") if path.is_file()))
    damage = dice.choice(DAMAGES)
    if damage in (add, remove_folder) and file.parent == store:
        damage = remove
    damage(file, dice)
    message = ""
    try:
        tree = run(store)
    except ValueError as error:
        message = str(error)
    shutil.rmtree(store)
    if message:
        assert message.startswith("`store` must")
        return "refused"
    assert written(tree) == written(whole), (damage.__name__, file)
    return "right"


def test_damaged_stores(stores, whole, tmp_path) -> None:
    outcomes = [trial(seed, stores, whole[0], tmp_path) for seed in range(14)]
    assert set(outcomes) == {"refused", "right"}


@pytest.mark.validation
def test_many_damaged_stores(stores, whole, tmp_path) -> None:
    for seed in range(14, 1000):
        trial(seed, stores, whole[0], tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("sweep/scale/0", None, None),
        ("bounds/.zattrs", "provenance", "provenence"),
        ("exact/information/.zattrs", "long_name", "long_nome"),
        ("exact/param_kind/0", None, None),
        ("estimates/.zattrs", '"seed\\": 0', '"seed\\": 1'),
        ("layers/.zattrs", '"replicates": 6', '"replicates": 7'),
        ("network/.zattrs", '\\"n_train\\": 1348', '\\"n_train\\": 1349'),
        (".zattrs", '\\"train_score\\": 0', '\\"train_score\\": 1'),
        ("data/x/.zattrs", "units", "unots"),
    ],
)
def test_what_is_no_number_is_looked_at_too(file, old, new, whole, tmp_path) -> None:
    store = shutil.copytree(whole[1], tmp_path / "store")
    if old is None:
        array = results_store.arguments.optional_module("zarr", extra="study").open_array(store / Path(file).parent, mode="r+")
        array[0] = array[-1]
    else:
        text = (store / file).read_text()
        assert old in text
        (store / file).write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=r"`store` must hold what the study wrote, got .* is damaged"):
        run(store)


def test_a_changed_index_of_a_store_is_written_again(whole, tmp_path) -> None:
    store = shutil.copytree(whole[1], tmp_path / "store")
    (store / ".zmetadata").write_text("{}")
    assert run(store).identical(whole[0])
    assert (store / ".zmetadata").read_bytes() == (whole[1] / ".zmetadata").read_bytes()


def test_digests_cover_everything() -> None:
    one = xr.Dataset(
        {"a": (["p", "q"], np.arange(6.0).reshape(2, 3), {"u": "1"})}, {"p": ("p", [1, 2], {"l": "p"})}, {"provenance": "x"}
    )
    digest = results_store._digest(one)
    changed = [
        one.rename(a="b"),
        one.rename(q="r"),
        one.assign_coords(p=[1, 3]),
        one.drop_vars("p"),
        one.assign_attrs(provenance="y"),
        one.assign(b=1.0),
        one.assign_coords(c=1.0),
        one.astype(np.float32),
        one.transpose("q", "p"),
        one.reset_coords("p") if "p" not in one.dims else one.assign(a=one["a"] + 0.0 * np.nan),
    ]
    other = one.copy(deep=True)
    other["a"].attrs["u"] = "2"
    labelled = one.copy(deep=True)
    labelled["p"].attrs["l"] = "q"
    assert len({int(results_store._digest(dataset)) for dataset in [*changed, other, labelled]} | {int(digest)}) == 13
    nan = one.copy(deep=True)
    nan["a"][0, 0] = np.nan
    negative = one.copy(deep=True)
    negative["a"][0, 0] = -np.nan
    assert results_store._digest(nan) == results_store._digest(negative) != digest
    assert results_store._digest(one.copy(deep=True)) == digest
