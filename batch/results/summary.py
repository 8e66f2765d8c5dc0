"""The sum of a run: counted while outcomes pass, told as text or as JSON."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from batch.model import Record, Status
from batch.text import printable


@dataclass(slots=True)
class Summary:
    """Counts over the outcomes of one report.

    Attributes:
        job: name of the job, empty until a row names it.
        outcomes: rows by outcome.
        reasons: rows by outcome and reason, where there is a reason.
        attempts: requests sent.
        started_at: earliest first attempt, RFC 3339, or empty.
        finished_at: latest end of an attempt, likewise.

    """

    job: str = ""
    outcomes: Counter[Status] = field(default_factory=Counter)
    reasons: Counter[tuple[Status, str]] = field(default_factory=Counter)
    attempts: int = 0
    started_at: str = ""
    finished_at: str = ""

    def add(self, record: Record) -> None:
        """Count one row. Its times are in UTC, so that their text sorts as they do."""
        self.outcomes[record.status] += 1
        if record.reason:
            self.reasons[record.status, printable(record.reason, 40)] += 1
        self.attempts += record.attempts
        started_at, finished_at = record.started_at, record.finished_at
        if started_at and (not self.started_at or started_at < self.started_at):
            self.started_at = started_at
        self.finished_at = max(self.finished_at, finished_at or "")

    @property
    def rows(self) -> int:
        """Rows counted."""
        return self.outcomes.total()

    @property
    def not_through(self) -> int:
        """Rows with something left to do."""
        return sum(count for status, count in self.outcomes.items() if not status.is_through)

    @property
    def seconds(self) -> float | None:
        """Seconds from the first attempt to the last answer, or None if nothing was sent."""
        if not self.started_at or not self.finished_at:
            return None
        end, start = datetime.fromisoformat(self.finished_at), datetime.fromisoformat(self.started_at)
        return (end - start).total_seconds()

    def as_json(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        return {
            "job": self.job,
            "rows": self.rows,
            "outcomes": {status.value: self.outcomes[status] for status in Status},
            "reasons": [
                {"outcome": status.value, "reason": reason, "rows": rows}
                for (status, reason), rows in self._ordered_reasons()
            ],
            "attempts": self.attempts,
            "started_at": self.started_at or None,
            "finished_at": self.finished_at or None,
            "seconds": self.seconds,
        }

    def as_text(self) -> str:
        """Return the summary as lines for a person."""
        head = f"{self.job}: " * bool(self.job) + counted(self.rows, "row")
        if self.attempts:
            head += f", {counted(self.attempts, 'request')}"
        if self.seconds:
            head += f" in {duration(self.seconds)}"
        width = max((len(f"{count:,}") for count in self.outcomes.values()), default=1)
        lines = [head]
        for status in Status:
            if not (count := self.outcomes[status]):
                continue
            reasons = ", ".join(
                f"{reason} {rows:,}" for (of, reason), rows in self._ordered_reasons() if of is status
            )
            lines.append(f"  {count:>{width},} {status.value}" + (f" ({reasons})" if reasons else ""))
        return "\n".join(lines)

    def _ordered_reasons(self) -> list[tuple[tuple[Status, str], int]]:
        order = list(Status)
        return sorted(
            self.reasons.items(), key=lambda entry: (order.index(entry[0][0]), -entry[1], entry[0][1])
        )


def counted(number: int, noun: str) -> str:
    """Return `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """Return `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`."""
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"
