"""A local stand-in of the service: its rules, its messages, its limits, and its bad days on request."""

from jobs.sandbox.catalogue import Catalogue, FpgaImage
from jobs.sandbox.faults import NO_FAULTS, Faults, RateLimit, parse_rate_limit
from jobs.sandbox.rules import Refusal
from jobs.sandbox.server import create_app, serve
from jobs.sandbox.service import Call, Reply, Sandbox, Withheld
from jobs.sandbox.store import Associations

__all__ = [
    "NO_FAULTS",
    "Associations",
    "Call",
    "Catalogue",
    "Faults",
    "FpgaImage",
    "RateLimit",
    "Refusal",
    "Reply",
    "Sandbox",
    "Withheld",
    "create_app",
    "parse_rate_limit",
    "serve",
]
