"""Whether this machine is an ECS: only then is there a metadata service to ask."""

from pathlib import Path

FIRMWARE = Path("/sys/class/dmi/id")
"""Where Linux shows what the firmware's tables say of the machine."""

_TABLES = {
    # As cloud-init tells an instance: the clouds' own names, and OpenStack's where a cloud keeps them.
    "chassis_asset_tag": ("huaweicloud", "opentelekomcloud", "openstack nova", "openstack compute"),
    "product_name": ("openstack nova", "openstack compute"),
}


def is_instance(firmware: Path = FIRMWARE) -> bool:
    """Whether the firmware says that this machine is an instance of one of these clouds.

    Args:
        firmware: folder of the tables' texts.

    """
    return any(_text(firmware / name) in known for name, known in _TABLES.items())


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip().lower()
    except OSError:
        return ""
