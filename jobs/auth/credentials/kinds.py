"""The kinds of credentials there are, and what they come to. No secret is shown by any `repr`."""

from dataclasses import dataclass, field
from typing import ClassVar

from jobs.auth.signing import Keys


@dataclass(frozen=True, slots=True)
class Token:
    """An IAM token: it names its user and its project."""

    secret: str = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody may see."""
        return (self.secret,)


@dataclass(frozen=True, slots=True)
class Password:
    """A user, for whom IAM makes tokens.

    Attributes:
        name: of the user, or empty where the id is known.
        id: of the user.
        secret: the password.
        domain_name: the user's domain, on these clouds the account; or empty where its id is known.
        domain_id: of that domain.
        project_domain_name: the projects' domain, if it is another one.
        project_domain_id: of that domain.

    """

    name: str
    id: str
    secret: str = field(repr=False)
    domain_name: str = ""
    domain_id: str = ""
    project_domain_name: str = ""
    project_domain_id: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody may see: a password that is also a name is none."""
        names = (self.name, self.id, self.domain_name, self.domain_id, self.project_domain_name)
        return () if self.secret in names else (self.secret,)


@dataclass(frozen=True, slots=True)
class Cloud:
    """An entry of `clouds.yaml`, which openstacksdk reads.

    Attributes:
        name: of the entry.

    """

    name: str
    secrets: ClassVar[tuple[str, ...]] = ()  # they are known when the entry is read


@dataclass(frozen=True, slots=True)
class Agency:
    """What the ECS may do on which the program runs: its metadata service gives temporary keys.

    Attributes:
        endpoint: base URL of the metadata service.

    """

    endpoint: str
    secrets: ClassVar[tuple[str, ...]] = ()  # they are known when they have been asked for


Credential = Keys | Token | Password | Cloud | Agency


@dataclass(frozen=True, slots=True)
class Found:
    """Credentials, and what stands beside them.

    Attributes:
        source: where they were found, for people.
        credential: what they are, or None where there are none.
        project_id: of the images, or empty.
        project_name: of that project, or empty.
        region: or empty.
        cloud_domain: or empty.
        iam: base URL of the identity service, or empty.
        warnings: what is to be said of them.

    """

    source: str
    credential: Credential | None
    project_id: str = ""
    project_name: str = ""
    region: str = ""
    cloud_domain: str = ""
    iam: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Grant:
    """What requests for one project are authorised with. Each is a value of its own, whatever it holds.

    Attributes:
        credential: goes with the requests.
        project_id: of the project.
        lifetime: seconds for which it is good, or None where nothing says so.
        who: the holder, for people.
        project_name: or empty.
        expires_at: when it ends, as the service writes it, or empty.

    """

    credential: Keys | Token
    project_id: str
    lifetime: float | None = None
    who: str = ""
    project_name: str = ""
    expires_at: str = ""
