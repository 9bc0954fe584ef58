"""Fields of what is given from outside (plans, tasks), and what is wrong with one in a plain sentence."""

from __future__ import annotations

import operator
import reprlib
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

MOST = 2**63 - 1  # what catalogue, arrays and generators of random numbers hold


def whole(value: Any) -> int:
    """A whole number, also one of NumPy; never true, 1.0 or "1".

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"it must be a whole number, not {quoted(value)}")
    return operator.index(value)


Id = Annotated[int, BeforeValidator(whole), Field(ge=0, le=MOST)]  # of a neuron or sample
Seed = Annotated[int, BeforeValidator(whole), Field(ge=0, le=MOST)]

_WORDS = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such field",
    "greater_than_equal": "{input} is too small; the least is {ge}",
    "greater_than": "{input} is too small; it must be more than {gt}",
    "less_than_equal": "{input} is too large; the most is {le}",
    "less_than": "{input} is too large; it must be less than {lt}",
    "finite_number": "it must be a finite number, not {input}",
    "literal_error": "{input} is none of {expected}",
    "enum": "{input} is none of {expected}",
    "string_type": "it must be text, not {input}",
    "string_too_short": "it is empty",
    "string_too_long": "it has more than {max_length} characters",
    "int_type": "it must be a whole number, not {input}",
    "int_from_float": "it must be a whole number, not {input}",
    "int_parsing": "it must be a whole number, not {input}",
    "int_parsing_size": "it must be a whole number of at most 19 digits",
    "float_type": "it must be a number, not {input}",
    "float_parsing": "it must be a number, not {input}",
    "bool_type": "it must be true or false, not {input}",
    "bool_parsing": "it must be true or false, not {input}",
    "tuple_type": "it must be a list, not {input}",
    "list_type": "it must be a list, not {input}",
    "dict_type": "it must be an object of names and values, not {input}",
    "model_type": "it must be an object of names and values, not {input}",
    "model_attributes_type": "it must be an object of names and values, not {input}",
    "too_short": "it has {actual_length} entries; the least is {min_length}",
    "too_long": "it has {actual_length} entries; the most is {max_length}",
    "json_invalid": "it is no JSON: {error}",
}
_SHOWN = 40  # characters of a value that a message quotes


def first_fault(error: ValidationError, whole: str) -> str:
    """`epochs: 1000 is too large; the most is 100`. whole: what to call it where no field is to blame."""
    found = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in found["loc"]) or whole
    words = _WORDS.get(found["type"])
    if words is None:
        return f"{where}: {found['msg'].removeprefix('Value error, ')}"
    return f"{where}: {words.format(input=quoted(found['input']), **_context(found.get('ctx', {})))}"


def _context(given: dict[str, Any]) -> dict[str, Any]:
    """What a message may name besides the value; every placeholder has a value."""
    names = ("ge", "gt", "le", "lt", "expected", "max_length", "min_length", "actual_length", "error")
    return {name: given.get(name, "") for name in names}


def quoted(value: Any) -> str:
    """A value as a message shows it, cut to a few characters and levels."""
    if value is None:
        return "nothing"
    text = reprlib.repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
