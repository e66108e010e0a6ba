"""Paths as they are printed, and what is said of a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from o2obench.util.files import as_argument, naming, write_atomically


@pytest.mark.parametrize(
    ("path", "argument"),
    [("results", "results"), ("my results", "'my results'"), ("-r", "./-r"), ("-r; rm x", "'./-r; rm x'")],
)
def test_a_path_in_a_printed_command_is_one_argument_and_no_option(path: str, argument: str) -> None:
    assert as_argument(path) == argument


@pytest.mark.parametrize(("inodes", "said"), [(0, "all inodes are in use"), (5, "4,096,000 free")])
def test_a_full_disk_is_named_with_what_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inodes: int, said: str
) -> None:
    room = os.statvfs_result((4096, 4096, 1000, 1000, 1000, 100, inodes, inodes, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda folder: room)
    with (
        pytest.raises(OSError, match=f"12 bytes to write, .*{said}") as full,
        naming(tmp_path / "x", 12),
    ):
        raise OSError(errno.ENOSPC, "")
    assert full.value.filename == str(tmp_path / "x")


def test_who_reads_a_file_that_is_replaced_reads_the_old_one_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    write_atomically(file, "old")
    with open(file) as reader:
        write_atomically(file, "new")
        assert reader.read() == "old"
    assert file.read_text() == "new"
