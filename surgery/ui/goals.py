"""What each surgery is for, in the words of whoever looks for it: the choice on the page Change, and links to it."""

from __future__ import annotations

from surgery.operations.base import operations
from surgery.ui.messages import _


def goals() -> dict[str, str]:
    """Operation -> goal, in the order in which they are offered; those not named come last."""
    return {
        "compress": _("Make it smaller"),
        "prune": _("Make it smaller"),
        "slim_mlp": _("Make it smaller"),
        "self_compress": _("Make it smaller"),
        "readapt": _("Fit new data"),
        "extend": _("Teach it more"),
        "forget": _("Forget"),
        "split": _("Take it apart"),
        "damage": _("Try it out"),
    }


def label(name: str) -> str:
    """`Make it smaller: Remove neurons`, as the choice shows it and its link names it."""
    return f"{goals().get(name, _('Other'))}: {operations()[name].title}"
