"""What the sandbox is told by a file: the images there are, and who may come in. Pure but for reading it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, Self

import orjson

from jobs.sandbox.accounts import DEFAULT_ACCOUNTS, Accounts, is_project_id
from jobs.sandbox.reading import HEX_DIGITS, entries, identifier, known_keys, one_of

is_fpga_image_id = re.compile("[0-9a-f]{32}").fullmatch
is_image_id = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch

_IMAGE_TYPES = ("private", "shared", "market")
_STATUSES = (
    "active",
    "creating",
    "deleting",
    "error",
    "initialing",
    "initialling",
    "initiating",
    "saving",
    "scheduling",
)
_DETAILS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "description": (str,),
    "size": (int,),
    "createdAt": (str,),
    "message": (str, NoneType),
    "metadata": (dict,),
    "log_directory": (str, NoneType),
}


@dataclass(frozen=True, slots=True)
class FpgaImage:
    """An FPGA image.

    Attributes:
        id: 32 lower-case hex digits.
        owner: project that owns it, or None for whichever project asks.
        status: only an `active` one can be associated.
        details: other fields of its description, under the service's own names.

    """

    id: str
    owner: str | None = None
    status: str = "active"
    details: Mapping[str, Any] = field(default_factory=dict)

    def description(self, *, protected: bool) -> dict[str, Any]:
        """Return the image as the service lists it."""
        told = self.details.get
        return {
            "id": self.id,
            "name": told("name", f"fpga-{self.id[:8]}"),
            "description": told("description", ""),
            "status": self.status,
            "size": told("size", 40),
            "createdAt": told("createdAt", "2017-10-16 07:46:06"),
            "protected": protected,
            "message": told("message"),
            "metadata": told("metadata", {}),
            "log_directory": told("log_directory"),
        }


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What the sandbox has been told of.

    Attributes:
        images: type of each ECS image by its id: `private`, `shared` or `market`.
        fpga_images: FPGA images by their ids.
        accounts: who may come in.

    """

    images: Mapping[str, str] = field(default_factory=dict)
    fpga_images: Mapping[str, FpgaImage] = field(default_factory=dict)
    accounts: Accounts = DEFAULT_ACCOUNTS

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a catalogue file.

        Raises:
            ValueError: it cannot be read or used; the message names the file, the key and what is wrong.

        """
        try:
            return cls.from_json(orjson.loads(Path(path).read_bytes()))
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{path}: not JSON: {error}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Build a catalogue from a file's decoded content.

        Raises:
            ValueError: something in it is wrong; the message names the key.

        """
        sections = known_keys("the catalogue", content, ("images", "fpga_images", "accounts"))
        images: dict[str, str] = {}
        for place, entry in entries("images", sections.get("images", []), ("id", "type")):
            image_id = identifier(place, entry, is_image_id, "a lower-case UUID", images)
            images[image_id] = one_of(f"{place}.type", entry.get("type"), _IMAGE_TYPES)
        fpga_images: dict[str, FpgaImage] = {}
        known = ("id", "owner", "status", *_DETAILS)
        for place, entry in entries("fpga_images", sections.get("fpga_images", []), known):
            fpga_image_id = identifier(place, entry, is_fpga_image_id, HEX_DIGITS, fpga_images)
            fpga_images[fpga_image_id] = FpgaImage(
                fpga_image_id,
                owner=_owner(f"{place}.owner", entry.get("owner")),
                status=one_of(f"{place}.status", entry.get("status", "active"), _STATUSES),
                details=_details(place, entry),
            )
        return cls(images, fpga_images, Accounts.from_json(sections.get("accounts", {})))


def _owner(place: str, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and is_project_id(value)):
        return value
    raise ValueError(f"{place}: {value!r} is neither a project id ({HEX_DIGITS}) nor null")


def _details(place: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    details = {key: entry[key] for key in _DETAILS if key in entry}
    for key, value in details.items():
        if type(value) not in _DETAILS[key]:
            raise ValueError(f"{place}.{key}: {value!r} has the wrong type")
    return details
