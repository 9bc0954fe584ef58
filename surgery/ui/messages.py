"""The words on the pages, from the catalogue that receipts and the command line use too."""

from surgery.messages import _, plural

__all__ = ["_", "plural"]
