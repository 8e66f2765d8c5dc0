"""Who is associated with whom: millions of pairs, found from either side. Pure."""

from collections.abc import Collection, Iterator
from typing import NamedTuple


class _Index:
    """Ids and, for each, the ids on the other side in order of arrival.

    Most ids have one partner only, which is then kept without a container around it.
    """

    __slots__ = ("_partners",)

    def __init__(self) -> None:
        self._partners: dict[bytes, bytes | dict[bytes, None]] = {}

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._partners)

    def __contains__(self, key: bytes) -> bool:
        return key in self._partners

    def add(self, key: bytes, partner: bytes) -> None:
        held = self._partners.setdefault(key, partner)
        if held is partner:
            return
        if isinstance(held, bytes):
            self._partners[key] = {held: None, partner: None}
        else:
            held[partner] = None

    def remove(self, key: bytes, partner: bytes) -> None:
        held = self._partners[key]
        if isinstance(held, bytes) or len(held) == 1:
            del self._partners[key]
        else:
            del held[partner]

    def partners(self, key: bytes) -> Collection[bytes]:
        held = self._partners.get(key, ())
        return (held,) if isinstance(held, bytes) else held


class _Project(NamedTuple):
    by_image: _Index
    by_fpga_image: _Index


_NOTHING = _Project(_Index(), _Index())


class Associations:
    """Pairs of an FPGA image and an ECS image, by project; a set of `(project, fpga image, image)`.

    Ids are well-formed lower-case text outside and 16 bytes inside.
    """

    def __init__(self) -> None:
        self._projects: dict[str, _Project] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, association: tuple[str, str, str]) -> bool:
        project, fpga_image, image = association
        by_image = self._projects.get(project, _NOTHING).by_image
        return bytes.fromhex(fpga_image) in by_image.partners(_packed(image))

    def __iter__(self) -> Iterator[tuple[str, str, str]]:
        """Go through all associations; changes made meanwhile may or may not be seen."""
        for project, (by_image, _) in list(self._projects.items()):
            for image in list(by_image):
                for fpga_image in list(by_image.partners(image)):
                    yield project, fpga_image.hex(), _image_id(image)

    def add(self, project: str, fpga_image: str, image: str) -> None:
        """Take in a pair that is not there yet."""
        if project not in self._projects:
            self._projects[project] = _Project(_Index(), _Index())
        by_image, by_fpga_image = self._projects[project]
        fpga_key, image_key = bytes.fromhex(fpga_image), _packed(image)
        by_image.add(image_key, fpga_key)
        by_fpga_image.add(fpga_key, image_key)
        self._count += 1

    def remove(self, project: str, fpga_image: str, image: str) -> None:
        """Take out a pair that is there."""
        by_image, by_fpga_image = self._projects[project]
        fpga_key, image_key = bytes.fromhex(fpga_image), _packed(image)
        by_image.remove(image_key, fpga_key)
        by_fpga_image.remove(fpga_key, image_key)
        self._count -= 1

    def count_of_image(self, project: str, image: str) -> int:
        """Return how many FPGA images the ECS image has."""
        return len(self._projects.get(project, _NOTHING).by_image.partners(_packed(image)))

    def of_image(self, project: str, image: str) -> Iterator[str]:
        """Return the FPGA images of an ECS image, oldest association first."""
        partners = self._projects.get(project, _NOTHING).by_image.partners(_packed(image))
        return (fpga_image.hex() for fpga_image in partners)

    def of_fpga_image(self, project: str, fpga_image: str) -> Iterator[str]:
        """Return the ECS images of an FPGA image, oldest association first."""
        partners = self._projects.get(project, _NOTHING).by_fpga_image.partners(bytes.fromhex(fpga_image))
        return map(_image_id, partners)

    def is_associated(self, project: str, fpga_image: str) -> bool:
        """Tell whether the FPGA image has any association."""
        return bytes.fromhex(fpga_image) in self._projects.get(project, _NOTHING).by_fpga_image

    def fpga_images(self, project: str) -> Iterator[str]:
        """Return the FPGA images that have an association."""
        return (fpga_image.hex() for fpga_image in self._projects.get(project, _NOTHING).by_fpga_image)


def _packed(image: str) -> bytes:
    return bytes.fromhex(image.replace("-", ""))


def _image_id(packed: bytes) -> str:
    digits = packed.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
