"""A process that pumps the queue and finishes whatever runs, until all is done: several of them race in a test.

Its engine starts nothing: it writes down what it was told to start.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from surgery import jobs
from surgery.children import me
from surgery.errors import Cancelled
from surgery.jobs import kinds
from surgery.workspace import Workspace, liveness, queue
from surgery.workspace.queue import Worker
from tests.jobs.sleeper import KINDS


@dataclass(frozen=True)
class Diary:
    """Notes each launch; the "worker" is this very process."""

    path: Path

    def launch(self, home: Path, job_id: str) -> Worker:
        """Append the job to the diary in one write."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{job_id}\n".encode())
        os.close(descriptor)
        return Worker(os.getpid(), me().born, liveness.here(), None)

    def alive(self, worker: Worker) -> bool:
        """All racers live to the end."""
        return True

    def stop(self, worker: Worker) -> bool:
        """Nothing to stop."""
        return True

    def reap(self) -> None:
        """Nothing to reap."""


def main(home: Path, diary: Path) -> None:
    """Pump and finish until every job is done."""
    kinds.KINDS.update(KINDS)
    ws = Workspace(home)
    while any(job.active for job in jobs.jobs(ws, engine=Diary(diary))):
        with ws.store.read() as db:
            running = queue.holders(db)
        for row in running:
            try:
                with ws.store.write() as db:
                    queue.finish(ws.store, db, row["id"], {"slot": row["slot"]})
            except Cancelled:
                continue  # another racer finished it


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
