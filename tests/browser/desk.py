"""One browser tab on one project, and what tests of whole surgeries do in it."""

from __future__ import annotations

from dataclasses import dataclass

from playwright.sync_api import Page, expect

from surgery.workspace import Project, Version, Workspace
from tests.browser.conftest import settle
from tests.patience import MILLISECONDS, until

SLOW = MILLISECONDS


@dataclass(frozen=True)
class Desk:
    """The tab, the project, and the version that everything starts from."""

    page: Page
    ws: Workspace
    url: str
    project: Project
    original: Version

    @property
    def current(self) -> Version:
        """The version in use."""
        return self.ws.version(str(self.ws.project(self.project.id).current))

    def wait_for_another(self, before: Version) -> None:
        """Until another version is in use."""
        until(lambda: self.current.id != before.id, "a new version")

    def open(self, name: str, query: str = "") -> None:
        """Open a page of the project by its address, once the one before is at rest."""
        settle(self.page)
        self.page.goto(f"{self.url}/{name}?project={self.project.id}{query}")
        settle(self.page)

    def change(self) -> None:
        """Open the page Change on the original."""
        self.open("change", f"&version={self.original.id}")

    def undo(self) -> None:
        """Go back to the original, with the proof of its digest."""
        self.open("versions")
        self.page.get_by_role("button", name="Undo").click()
        expect(self.page.get_by_text(self.original.digest).first).to_be_visible(timeout=SLOW)
        assert self.current.id == self.original.id
