from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from proxy.service.changes import LOOK, Changes

pytestmark = pytest.mark.autojump


def watching(*paths: Path) -> Changes:
    return Changes(lambda: [str(path) for path in paths])


async def nothing(changes: Changes, looks: float = 20) -> None:
    with trio.move_on_after(looks * LOOK) as scope:
        raise AssertionError(await anext(changes))
    assert scope.cancelled_caught


async def one(changes: Changes, looks: float = 8) -> list[str]:
    with trio.fail_after(looks * LOOK):
        return [Path(path).name for path in await anext(changes)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("a: 1\n")
    return path


def in_place(path: Path) -> None:
    with path.open("r+") as file:
        file.write("a: 2\n")


def in_place_with_its_old_times(path: Path) -> None:
    before = path.stat()
    in_place(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def by_a_rename(path: Path) -> None:
    other = path.with_suffix(".swp")
    other.write_text("a: 2\n")
    other.rename(path)


def by_unlink_and_create(path: Path) -> None:
    path.unlink()
    path.write_text("a: 3\n")


def with_a_backup(path: Path) -> None:
    path.rename(path.with_suffix(".yaml~"))
    path.write_text("a: 2\n")


@pytest.mark.parametrize(
    "change",
    [in_place, in_place_with_its_old_times, by_a_rename, by_unlink_and_create, with_a_backup],
)
async def test_however_a_file_is_changed_it_is_told_once(file: Path, change: Callable[[Path], None]) -> None:
    changes = watching(file)
    await nothing(changes, 3)
    change(file)
    assert await one(changes, 3) == ["config.yaml"]
    await nothing(changes)
    change(file)
    assert await one(changes, 3) == ["config.yaml"]


async def test_a_config_map_is_swapped_behind_symbolic_links(tmp_path: Path) -> None:
    """As the kubelet does: a new directory, and one rename over ``..data``."""

    def publish(version: int) -> None:
        real = tmp_path / f"..{version}"
        real.mkdir()
        (real / "config.yaml").write_text(f"a: {version}\n")
        (tmp_path / "..data_tmp").symlink_to(real.name)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    publish(1)
    path = tmp_path / "config.yaml"
    path.symlink_to("..data/config.yaml")
    changes = watching(path)
    for version in (2, 3):
        publish(version)
        assert await one(changes, 3) == ["config.yaml"]
        assert path.read_text() == f"a: {version}\n"
        (tmp_path / f"..{version - 1}" / "config.yaml").unlink()
        await nothing(changes, 5)


async def test_who_writes_slowly_is_waited_for(file: Path) -> None:
    changes = watching(file)
    told: list[float] = []

    async def tell() -> None:
        await anext(changes)
        told.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        with file.open("w") as out:
            for line in range(7):
                out.write(f"key{line}: {line}\n")
                out.flush()
                await trio.sleep(0.7 * LOOK)
                assert not told
        last = trio.current_time()
    assert told[0] - last <= 3 * LOOK
    await nothing(changes)


def removed(path: Path) -> None:
    path.unlink()


def written(path: Path) -> None:
    path.write_text("a: 2\n")


async def test_a_file_that_vanishes_for_a_moment_has_not_changed_until_it_is_back(file: Path) -> None:
    changes = watching(file)
    removed(file)
    await nothing(changes, 3)
    written(file)
    assert await one(changes, 3) == ["config.yaml"]


async def test_a_file_that_stays_away_is_told_and_so_is_its_return(file: Path) -> None:
    changes = watching(file)
    removed(file)
    assert await one(changes, 8) == ["config.yaml"]
    await nothing(changes)
    written(file)
    assert await one(changes, 3) == ["config.yaml"]


async def test_a_change_while_the_last_one_is_dealt_with_is_not_missed(file: Path) -> None:
    changes = watching(file)
    in_place(file)
    assert await one(changes) == ["config.yaml"]
    by_a_rename(file)  # before the next wait begins
    assert await one(changes) == ["config.yaml"]


async def test_what_a_new_file_names_is_looked_at_from_then_on(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    paths = [str(file)]
    changes = Changes(lambda: paths)
    by_a_rename(secret)
    await nothing(changes, 4)
    paths.append(str(secret))
    in_place(file)
    assert await one(changes) == ["config.yaml"]
    secret.write_text("t")
    assert await one(changes) == ["secret"]


async def test_several_files_at_once_are_told_together(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    changes = watching(file, secret, tmp_path / "never there", Path("a\0b"))
    by_a_rename(file)
    by_a_rename(secret)
    assert await one(changes) == ["config.yaml", "secret"]
    await nothing(changes)


async def test_it_is_an_iterator(file: Path) -> None:
    changes = watching(file)
    in_place(file)
    async for paths in changes:
        assert paths == (str(file),)
        break
