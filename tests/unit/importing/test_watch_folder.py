"""A watched folder: which files are taken, and when."""

import os
import time
from pathlib import Path

import pytest

from ops.files.layout import NotReadable
from ops.importing.watch_folder import WatchedFolder


def old(path: Path, text: str = "bon\n1\n") -> Path:
    path.write_text(text)
    os.utime(path, (time.time() - 300, time.time() - 300))
    return path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_file_that_grows_is_not_taken(tmp_path: Path) -> None:
    folder = WatchedFolder(tmp_path, complete_after=0.2)
    path = tmp_path / "sales.csv"
    for turn in range(4):
        path.write_text("x" * turn)
        assert folder.taken() == []
    time.sleep(0.3)  # it is the time without a change that makes it complete
    assert names(folder.taken()) == ["sales.csv"]
    assert not path.exists()


def test_file_that_is_renamed_in_is_taken_at_once(tmp_path: Path) -> None:
    folder = WatchedFolder(tmp_path)
    old(tmp_path / "sales.csv.part")
    assert folder.taken() == []
    (tmp_path / "sales.csv.part").rename(tmp_path / "sales.csv")
    assert names(folder.taken()) == ["sales.csv"]


def test_what_a_watcher_that_died_had_taken_is_taken_again(tmp_path: Path) -> None:
    folder = WatchedFolder(tmp_path)
    old(folder.working / "sales.csv")
    old(tmp_path / "sales.csv")
    assert names(folder.taken()) == ["sales.csv"]
    folder.put_away({folder.working / "sales.csv": folder.done / "sales.csv"})
    assert names(folder.taken()) == ["sales.csv"]  # the one that came meanwhile


def test_files_of_an_import_that_is_done_are_all_moved_also_after_a_kill(tmp_path: Path) -> None:
    folder = WatchedFolder(tmp_path)
    for name in ("1.csv", "2.csv"):
        old(folder.working / name)
    (folder.working / ".moves.json").write_text(
        '{"0.csv": "done/0.csv", "1.csv": "done/1.csv", "2.csv": "failed/2.csv"}'
    )
    assert WatchedFolder(tmp_path).taken() == []
    assert names(sorted(folder.done.iterdir())) == ["1.csv"]
    assert names(sorted(folder.failed.iterdir())) == ["2.csv"]


def test_hidden_files_and_folders_stay(tmp_path: Path) -> None:
    folder = WatchedFolder(tmp_path)
    old(tmp_path / ".sales.csv")
    (tmp_path / "more").mkdir()
    old(tmp_path / "more" / "sales.csv")
    assert folder.taken() == []


def test_folder_has_one_watcher(tmp_path: Path) -> None:
    with (
        WatchedFolder(tmp_path).alone(),
        pytest.raises(NotReadable, match="another process watches"),
        WatchedFolder(tmp_path).alone(),
    ):
        pass
    with WatchedFolder(tmp_path).alone():
        pass


def test_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotReadable, match="no such folder"):
        WatchedFolder(tmp_path / "none")
