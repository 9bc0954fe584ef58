"""The words that people read: English in the code, other languages in `locale/<language>/LC_MESSAGES/surgery.mo`.

    from surgery.messages import _, plural
    _("Remove {count} neurons").format(count=3)

The language is read once from SURGERY_LANGUAGE; without a catalogue for it, English stays.
"""

from __future__ import annotations

import gettext
import os
from pathlib import Path

_LOCALE = Path(__file__).parent / "locale"
_catalogue = gettext.translation(
    "surgery", _LOCALE, languages=[os.environ.get("SURGERY_LANGUAGE", "en")], fallback=True
)


def _(text: str) -> str:
    """Return `text` in the language of the reader."""
    return _catalogue.gettext(text)


def plural(one: str, many: str, count: int, **names: str) -> str:
    """Return the form for `count`, with `{count}` and `names` filled in: `plural("{count} row", "{count} rows", 3)`."""
    return _catalogue.ngettext(one, many, count).format(count=f"{count:,}", **names)
