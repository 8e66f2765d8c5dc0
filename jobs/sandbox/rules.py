"""What the service allows and what it says when it does not. Pure.

What no document tells is a guess, and marked as one.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, NoReturn

import orjson

from jobs.sandbox.accounts import is_project_id
from jobs.sandbox.catalogue import Catalogue, FpgaImage, is_fpga_image_id, is_image_id
from jobs.sandbox.messages import Refusal
from jobs.sandbox.store import Associations

FPGA_IMAGES_PER_IMAGE = 10

# The documents show the messages of the business rules without their codes; this one is a guess.
_RULE_CODE = "Ecs.0005"

_is_decimal = re.compile("[0-9]{1,9}").fullmatch
_LAST_PAGE = 65534
_LARGEST_SIZE = 100


class Rules:
    """The calls of the family, in the words of the service.

    An image that the catalogue does not tell of is taken as there, private, active and the caller's own;
    where `strict`, as missing.
    """

    def __init__(self, catalogue: Catalogue, associations: Associations, *, strict: bool = False) -> None:
        self._catalogue = catalogue
        self._associations = associations
        self._strict = strict
        self._deleted: set[tuple[str, str]] = set()

    def associate(self, project: str, fpga_image: str, body: bytes) -> None:
        """Associate the FPGA image with the ECS image that the body names.

        Raises:
            Refusal: malformed, or against a rule.

        """
        image = self._private_image_of_own(project, fpga_image, body, must_be_active=True)
        if (project, fpga_image, image) in self._associations or (
            self._associations.count_of_image(project, image) >= FPGA_IMAGES_PER_IMAGE
        ):
            _refuse(
                f"tenant [{project}] relate fpga image [{fpga_image}] and image [{image}] failed: relation"
                " already exist or the related fpga image count of image reach the max limit"
            )
        self._associations.add(project, fpga_image, image)

    def disassociate(self, project: str, fpga_image: str, body: bytes) -> None:
        """Take the association with the ECS image that the body names back.

        Raises:
            Refusal: malformed, or against a rule.

        """
        image = self._private_image_of_own(project, fpga_image, body, must_be_active=False)
        if (project, fpga_image, image) not in self._associations:
            # Neither status nor message is documented: a guess.
            _refuse(
                f"tenant [{project}] unrelate fpga image [{fpga_image}] and image [{image}] failed:"
                " relation does not exist"
            )
        self._associations.remove(project, fpga_image, image)

    def delete(self, project: str, fpga_image: str) -> None:
        """Delete an FPGA image.

        Raises:
            Refusal: malformed, missing, somebody else's, or associated.

        """
        self._own(project, fpga_image)
        if self._associations.is_associated(project, fpga_image):
            _refuse(f"tenant [{project}] fpga image [{fpga_image}] is protected")
        self._deleted.add((project, fpga_image))

    def list_associations(self, project: str, query: Mapping[str, str]) -> dict[str, Any]:
        """List associations by ECS image, by FPGA image, or one by both; with neither, none.

        A page counts pairs; that is a guess.

        Raises:
            Refusal: a parameter is malformed, or the FPGA image is missing.

        """
        _check_project(project)
        image, fpga_image = query.get("image_id"), query.get("fpga_image_id")
        if image is not None:
            _check("image_id", is_image_id(image))
        if fpga_image is not None:
            self._existing(project, fpga_image)
        if image is not None and fpga_image is not None:
            is_there = (project, fpga_image, image) in self._associations
            return {"associations": self._grouped(project, [(image, fpga_image)] if is_there else [])}
        page = _page(query)
        pairs: Iterable[tuple[str, str]] = ()
        if image is not None:
            pairs = ((image, found) for found in self._associations.of_image(project, image))
        elif fpga_image is not None:
            pairs = ((found, fpga_image) for found in self._associations.of_fpga_image(project, fpga_image))
        pairs = islice(pairs, page.start, page.stop)
        return {"associations": self._grouped(project, pairs)}

    def list_fpga_images(self, project: str, query: Mapping[str, str]) -> dict[str, Any]:
        """List the project's own FPGA images, or one of them.

        `count` counts all of them, not the page's; that is a guess. One that the catalogue does not tell of
        is listed while it is associated.

        Raises:
            Refusal: a parameter is malformed, or the FPGA image asked for is missing or somebody else's.

        """
        _check_project(project)
        fpga_image = query.get("fpga_image_id")
        if fpga_image is not None:
            found = [self._own(project, fpga_image).id]
            page = slice(None)
        else:
            page = _page(query)
            found = self._all_own(project)
        return {"count": len(found), "fpgaimages": [self._description(project, each) for each in found[page]]}

    def _private_image_of_own(
        self, project: str, fpga_image: str, body: bytes, *, must_be_active: bool
    ) -> str:
        """Return the id of the ECS image in the body once everything but the association is checked."""
        image = _image_in(body)
        status = self._own(project, fpga_image).status
        if must_be_active and status != "active":
            # Documented for ECS images only: a guess.
            _refuse(f"Image [{fpga_image}] must be active.", code="Ecs.0032")
        image_type = self._catalogue.images.get(image)
        if image_type is None and self._strict:
            _refuse(f"Image [{image}] does not exist.", code="Ecs.0031")
        if image_type is not None and image_type != "private":
            _refuse(f"tenant [{project}] image [{image}] type [{image_type}] is not private")
        return image

    def _existing(self, project: str, fpga_image: str) -> FpgaImage:
        _check_project(project)
        _check("fpga_image_id", is_fpga_image_id(fpga_image))
        found = self._catalogue.fpga_images.get(fpga_image)
        if (project, fpga_image) in self._deleted or (found is None and self._strict):
            _refuse(f"tenant [{project}] fpga image [{fpga_image}] doesn't exist", status=404)
        return found or FpgaImage(fpga_image)

    def _own(self, project: str, fpga_image: str) -> FpgaImage:
        found = self._existing(project, fpga_image)
        if not _owns(project, found):
            _refuse(f"tenant [{project}] is not the owner of fpga image [{fpga_image}]")
        return found

    def _all_own(self, project: str) -> list[str]:
        told = self._catalogue.fpga_images
        own = [each.id for each in told.values() if _owns(project, each)]
        own = [each for each in own if (project, each) not in self._deleted]
        return own + [each for each in self._associations.fpga_images(project) if each not in told]

    def _description(self, project: str, fpga_image: str) -> dict[str, Any]:
        protected = self._associations.is_associated(project, fpga_image)
        return self._existing(project, fpga_image).description(protected=protected)

    def _grouped(self, project: str, pairs: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
        descriptions: dict[str, dict[str, Any]] = {}
        groups: dict[str, list[dict[str, Any]]] = {}
        for image, fpga_image in pairs:
            if fpga_image not in descriptions:
                descriptions[fpga_image] = self._description(project, fpga_image)
            groups.setdefault(image, []).append(descriptions[fpga_image])
        return [{"image_id": image, "fpgaimages": group} for image, group in groups.items()]


def _refuse(message: str, *, code: str = _RULE_CODE, status: int = 400) -> NoReturn:
    raise Refusal(status, code, message)


def _check(parameter: str, is_well_formed: object) -> None:
    if not is_well_formed:
        _refuse(f"parameter [{parameter}] is illegal.", code="Ecs.0005")


def _check_project(project: str) -> None:
    _check("project_id", is_project_id(project))


def _owns(project: str, fpga_image: FpgaImage) -> bool:
    return fpga_image.owner is None or fpga_image.owner == project


def _image_in(body: bytes) -> str:
    try:
        image = orjson.loads(body)["image"]["id"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        image = None
    if not isinstance(image, str) or not is_image_id(image):
        _refuse("request body is illegal.", code="Ecs.0005")
    return image


def _page(query: Mapping[str, str]) -> slice:
    """Return the entries that a query asks for: all of them if it says nothing of pages."""
    if "page" not in query and "size" not in query:
        return slice(None)
    page = _number(query, "page", _LAST_PAGE)
    size = _number(query, "size", _LARGEST_SIZE)
    return slice((page - 1) * size, page * size)


def _number(query: Mapping[str, str], name: str, largest: int) -> int:
    text = query.get(name, "")
    _check(name, _is_decimal(text) and 1 <= int(text) <= largest)
    return int(text)
