"""What messages never hold."""

from __future__ import annotations

import io
from pathlib import Path

from surgery.errors import DataError, nameless
from surgery.sandbox import described


def test_a_message_names_no_object_by_its_address() -> None:
    stream = io.BytesIO(b"x")
    assert DataError(f"'a.png' is unusable: cannot identify {stream!r}.").what == (
        "'a.png' is unusable: cannot identify the file."
    )
    assert described(OSError(f"cannot write mode F to {stream!r}")) == "cannot write mode F to the file"
    with Path(__file__).open("rb") as file:
        assert nameless(f"no pickle in {file!r}") == "no pickle in the file"
    assert nameless(f"{object()!r} is wrong") == "a object is wrong"
