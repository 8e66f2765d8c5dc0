"""The words that a report gives for what became of a row. This is the list of all of them."""

from difflib import get_close_matches

REASONS = frozenset(
    {
        # of the runner
        "connection",
        "duplicate_row",
        "interrupted",
        "invalid_row",
        "not_sent",
        "read_back",
        "timeout",
        "unread",
        # of the association jobs
        "accepted",
        "denied",
        "image_full",
        "no_such_api",
        "no_such_host",
        "no_such_project",
        "not_active",
        "not_associated",
        "not_found",
        "not_owner",
        "not_private",
        "protected",
        "rejected",
        "server_error",
        "throttled",
        "unreadable_answer",
    }
)


def likely_reason(word: str) -> str:
    """Return the reason that a misspelt word is most like, or nothing."""
    return next(iter(get_close_matches(word, sorted(REASONS), n=1)), "")
