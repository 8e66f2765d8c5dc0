"""The association jobs: associate, disassociate and verify pairs of an FPGA image and an ECS image. Pure.

Source: the ECS API reference, "Associating an FPGA Image with an ECS Image" and the pages beside it. The
service answers a repeated association and a full ECS image with one and the same 400, and an answer can be
lost; then the association is read back, and what is read is what is reported.
"""

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Any, ClassVar, NamedTuple

import orjson

from batch.job import Column, Conversation, RowError
from batch.model import READ_BACK, UNREAD, Answer, Kind, Request, Response, Result, Status, Verdict, Window
from batch.text import quoted
from jobs import ecs, ids
from jobs.endpoints import Site, is_project_id, is_region, project_of
from jobs.ids import is_fpga_image_id, is_image_id

IMAGE_LIMIT = 10
"""FPGA images that one ECS image takes."""


class Pair(NamedTuple):
    """One row's work: both ids, lower case, and the address of the project they are in."""

    fpga_image_id: str
    image_id: str
    address: str


class AssociationJob:
    """What the three jobs have in common.

    Args:
        site: where requests go when a row does not say otherwise.

    Attributes:
        taken_back_by: names of the jobs after which this job's outcomes do not hold any more.

    """

    name: ClassVar[str]
    taken_back_by: ClassVar[frozenset[str]]
    columns: ClassVar[tuple[Column, ...]] = (
        Column("fpga_image_id"),
        Column("image_id", aliases=("ecs_image_id",), path=("image", "id")),
        Column("project_id", required=False),
        Column("region", required=False),
    )

    def __init__(self, site: Site) -> None:
        self._site = site
        self._address = site.address()
        self._own_id = ""
        self._named: set[str] = set()

    def take_as_own(self, project_id: str) -> bool:
        """Take rows that name this project by its id for rows of the run's own, which is known by name only.

        Return whether there are such rows: then duplicates have to be looked for again.
        """
        if project_of(self._address)[0]:
            return False  # one id is one spelling
        self._own_id = project_id
        return project_id in self._named

    def parse(self, cells: Sequence[str]) -> Pair:
        """Return the pair that a row's cells name, in the form that the service knows.

        Raises:
            RowError: an id is missing or malformed.

        """
        fpga_image_id, image_id, project_id, region = cells
        if not (is_fpga_image_id(fpga_image_id) and is_image_id(image_id)):
            fpga_image_id, image_id = ids.fpga_image_id(fpga_image_id), ids.image_id(image_id)
        if project_id or region:
            return Pair(fpga_image_id, image_id, self._own_address(project_id, region))
        return Pair(fpga_image_id, image_id, self._address)

    def is_sound(self, cells: Sequence[str]) -> bool:
        """Whether a row's cells name a pair."""
        try:
            self.parse(cells)
        except RowError:
            return False
        return True

    def key(self, item: Pair) -> bytes:
        """Return the identity of a pair: 32 bytes, and the address where it is not the run's own."""
        fpga_image_id, image_id, address = item
        key = bytes.fromhex(fpga_image_id + image_id.replace("-", ""))
        return key if address is self._address or address == self._address else key + address.encode()

    def conversation(self, item: Pair) -> Conversation:
        """Return the requests that carry a pair to its result."""
        raise NotImplementedError

    def classify(self, request: Request, response: Response) -> Verdict:
        """Say what a response means. A reading that cannot be read is worth another attempt."""
        verdict = ecs.classify(response)
        if request.writes or verdict.kind is not Kind.DONE:
            return verdict
        if _pairs(response.body) is None:
            return ecs.unreadable(response, "this is no list of associations")
        return replace(verdict, maybe_applied=False)

    def shown_limit(self, response: Response) -> Window | None:
        """Return the service's rate limit where an answer shows it."""
        return ecs.shown_limit(response)

    def _own_address(self, project_cell: str, region_cell: str) -> str:
        project_id, region = ids.optional(project_cell), ids.optional(region_cell)
        if project_id and not is_project_id(project_id):
            raise ids.malformed("project_id", project_cell, "letters, digits, - and _")
        if region and region != self._site.region and not is_region(region):
            raise ids.malformed("region", region_cell, "a region, as cn-north-1")
        if region and region != self._site.region and self._site.is_fixed:
            raise RowError("region", f"{quoted(region_cell)} cannot be reached: --endpoint is one region's")
        if project_id and region in ("", self._site.region):
            self._named.add(project_id)
            if project_id == self._own_id:
                return self._address
        return self._site.address(project_id, region)


class Associate(AssociationJob):
    """Make every pair associated."""

    name = "associate"
    taken_back_by = frozenset({"disassociate"})

    def conversation(self, item: Pair) -> Conversation:
        """Associate; where the answer leaves it open, read back what is true."""
        answer = yield _write("POST", item)
        if _is_certain(answer):
            return _result(Status.SUCCEEDED, answer)
        full_or_there = answer.verdict.reason == ecs.RELATION_OR_LIMIT
        if not _is_doubtful(answer) and not full_or_there:
            return _failure(answer)
        reading = yield _read(item)
        match _finding(item, reading):
            case _Finding.LISTED:
                return _found(answer, reading)
            case _Finding.ABSENT if _may_come(answer):
                return _not_yet(answer)
            case _Finding.ABSENT:
                return _failure(answer, "image_full" if full_or_there else "")
            case _Finding.NO_SUCH_IMAGE:
                return _failure(reading)
            case _Finding.UNREADABLE if _is_walled_off(answer, reading):
                return _failure(answer)
            case _Finding.UNREADABLE:
                return _unconfirmed(answer, reading)


class Disassociate(AssociationJob):
    """Make every pair not associated."""

    name = "disassociate"
    taken_back_by = frozenset({"associate"})

    def conversation(self, item: Pair) -> Conversation:
        """Disassociate; where the answer leaves it open, read back what is true."""
        answer = yield _write("DELETE", item)
        if _is_certain(answer):
            return _result(Status.SUCCEEDED, answer)
        # What a pair that is not associated is answered with is documented nowhere.
        perhaps_absent = answer.verdict.reason in ("rejected", "not_found", ecs.RELATION_OR_LIMIT)
        if not _is_doubtful(answer) and not perhaps_absent:
            return _failure(answer)
        reading = yield _read(item)
        match _finding(item, reading):
            case _Finding.ABSENT:
                return _found(answer, reading)
            case _Finding.LISTED if _may_come(answer):
                return _not_yet(answer)
            case _Finding.LISTED:
                return _failure(answer)
            case _Finding.NO_SUCH_IMAGE:
                return _failure(reading)
            case _Finding.UNREADABLE:
                is_sure = not _is_doubtful(answer) or _is_walled_off(answer, reading)
                return _failure(answer) if is_sure else _unconfirmed(answer, reading)


class Verify(AssociationJob):
    """Read whether every pair is associated; change nothing."""

    name = "verify"
    taken_back_by = frozenset({"associate", "disassociate"})

    def conversation(self, item: Pair) -> Conversation:
        """Read the pair's association."""
        reading = yield _read(item)
        match _finding(item, reading):
            case _Finding.LISTED:
                return _result(Status.UNCHANGED, reading)
            case _Finding.ABSENT:
                return _failure(reading, "not_associated")
            case _:
                return _failure(reading)


JOBS: dict[str, type[AssociationJob]] = {job.name: job for job in (Associate, Disassociate, Verify)}


def _write(method: str, pair: Pair) -> Request:
    url = f"{pair.address}/{pair.fpga_image_id}/association"
    return Request(method, url, b'{"image":{"id":"%b"}}' % pair.image_id.encode(), pair.address)


def _read(pair: Pair) -> Request:
    # With both ids the service looks at nothing else and gives no page, only the pair.
    query = f"fpga_image_id={pair.fpga_image_id}&image_id={pair.image_id}"
    return Request("GET", f"{pair.address}/associations?{query}", None, pair.address)


def _is_certain(answer: Answer) -> bool:
    """Whether the service says that it has done it: 204, and nothing less, is known to mean that."""
    return answer.verdict.kind is Kind.DONE and not answer.verdict.maybe_applied


def _is_doubtful(answer: Answer) -> bool:
    """Whether the write may have been done although no answer says so."""
    return answer.in_doubt or answer.hidden


def _is_walled_off(answer: Answer, reading: Answer) -> bool:
    """Whether the write and its read-back have both met with somebody else's page, and nothing else."""
    return not answer.in_doubt and answer.verdict.foreign and reading.verdict.foreign


def _may_come(answer: Answer) -> bool:
    """Whether the write may still be done after a read-back that does not show it.

    So it is when the service has taken it for later, and when nobody has waited for its end; unless the
    service has refused the same write since, for then it would have refused that one too.
    """
    return answer.maybe_later or (answer.unanswered and answer.verdict.kind is not Kind.REFUSED)


class _Finding(Enum):
    """What a read-back found."""

    LISTED = auto()
    ABSENT = auto()
    NO_SUCH_IMAGE = auto()  # the FPGA image does not exist, so it is associated with nothing
    UNREADABLE = auto()


def _finding(pair: Pair, reading: Answer) -> _Finding:
    verdict = reading.verdict
    if verdict.kind is Kind.REFUSED and verdict.reason == "not_found":
        return _Finding.NO_SUCH_IMAGE
    if verdict.kind is not Kind.DONE or reading.response is None:
        return _Finding.UNREADABLE
    listed = _pairs(reading.response.body)
    if listed is None:
        return _Finding.UNREADABLE
    return _Finding.LISTED if (pair.image_id, pair.fpga_image_id) in listed else _Finding.ABSENT


def _pairs(body: bytes) -> list[tuple[str, str]] | None:
    """Return the pairs that an answer lists, the ECS image first; None if it is no list of associations."""
    try:
        return [
            (image_id, fpga_image["id"].lower())
            for entry in _listed(orjson.loads(body), "associations")
            for image_id in [entry["image_id"].lower()]
            for fpga_image in _listed(entry, "fpgaimages")
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None


def _listed(document: Any, key: str) -> list[Any]:
    entries = document[key]
    if not isinstance(entries, list):
        raise TypeError(key)
    return entries


def _found(answer: Answer, reading: Answer) -> Result:
    """Say what it means that a read-back shows the row as it was wanted."""
    if _is_doubtful(answer):
        return _result(Status.SUCCEEDED, reading, READ_BACK)
    return _result(Status.UNCHANGED, reading)


def _result(status: Status, answer: Answer, reason: str = "") -> Result:
    assert answer.response is not None
    return Result(status, reason, answer.response.status, request_id=ecs.request_id(answer.response))


def _failure(answer: Answer, reason: str = "") -> Result:
    return _told(Status.FAILED, reason or _reason(answer), answer)


def _not_yet(answer: Answer) -> Result:
    return _told(Status.UNCONFIRMED, ecs.ACCEPTED if answer.maybe_later else _reason(answer), answer)


def _unconfirmed(answer: Answer, reading: Answer) -> Result:
    """Say why the truth is not known: the read-back failed; or cannot be read, then the write is told."""
    last = answer if reading.verdict.kind is Kind.DONE else reading
    return _told(Status.UNCONFIRMED, _reason(reading) if _is_doubtful(answer) else UNREAD, last)


def _reason(answer: Answer) -> str:
    """Return the report's word: one for two causes is no cause, and a success that is none has none."""
    reason = answer.verdict.reason
    if reason == ecs.RELATION_OR_LIMIT:
        return "rejected"
    return reason or "unreadable_answer"


def _told(status: Status, reason: str, answer: Answer) -> Result:
    verdict, response = answer.verdict, answer.response
    return Result(
        status,
        reason,
        response.status if response else None,
        verdict.code,
        verdict.message,
        ecs.request_id(response) if response else "",
    )
