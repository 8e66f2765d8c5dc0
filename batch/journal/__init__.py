"""Outcomes on disk as they happen, in the order in which they happen: JSON lines, only ever appended."""

from batch.journal.journal import Journal, journal_path
from batch.journal.lines import Identity
from batch.journal.progress import RunState, run_state

__all__ = ["Identity", "Journal", "RunState", "journal_path", "run_state"]
