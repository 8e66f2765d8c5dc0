"""Outcomes on disk as they happen, in the order in which they happen: JSON lines, only ever appended."""

from batch.results.journal.journal import Journal, journal_path
from batch.results.journal.lines import Identity
from batch.results.journal.progress import RunState, run_state

__all__ = ["Identity", "Journal", "RunState", "journal_path", "run_state"]
