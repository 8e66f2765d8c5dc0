"""A local stand-in of the service: its rules, its messages, its limits, and its bad days on request."""

from jobs.sandbox.accounts import Accounts, Named, User
from jobs.sandbox.catalogue import Catalogue, FpgaImage
from jobs.sandbox.certificate import issue_certificate
from jobs.sandbox.faults import NO_FAULTS, Faults, RateLimit, parse_rate_limit
from jobs.sandbox.messages import Call, Refusal, Reply, Withheld
from jobs.sandbox.server import create_app, serve
from jobs.sandbox.service import Sandbox
from jobs.sandbox.store import Associations

__all__ = [
    "NO_FAULTS",
    "Accounts",
    "Associations",
    "Call",
    "Catalogue",
    "Faults",
    "FpgaImage",
    "Named",
    "RateLimit",
    "Refusal",
    "Reply",
    "Sandbox",
    "User",
    "Withheld",
    "create_app",
    "issue_certificate",
    "parse_rate_limit",
    "serve",
]
