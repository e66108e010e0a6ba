"""Paths as they are printed in commands."""

from __future__ import annotations

import pytest

from o2obench.util.files import as_argument


@pytest.mark.parametrize(
    ("path", "argument"),
    [("results", "results"), ("my results", "'my results'"), ("-r", "./-r"), ("-r; rm x", "'./-r; rm x'")],
)
def test_a_path_in_a_printed_command_is_one_argument_and_no_option(path: str, argument: str) -> None:
    assert as_argument(path) == argument
