"""What the operator lets containers do: a profile for all, and exceptions for some images.

It is the table ``[containers]`` of the operator's policy file::

    [containers]
    profile = "default"

    [[containers.exceptions]]
    images = ["d4science/heavy-*"]
    memory_limit = "16GiB"

The *first* exception that names an image holds for it, alone: exceptions do not add up, so put the
narrow ones before the wide ones. Where the one that holds is silent, the table's profile and the
limits of the settings do.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from die_algorithm.image_reference import ImageReference
from die_algorithm.models import Job
from die_algorithm.repository_pattern import RepositoryPattern, matching
from die_algorithm.settings import Settings
from die_algorithm.settings_values import CpuLimit, MemoryLimit, PidsLimit, Size, TmpfsLimit

#: ``strict``: nothing to write to but small file systems in memory and the image's own volumes, which are on
#: the machine's disk, and nobody's user.
#: ``default``: what images for the original run with, unchanged, and no capability.
#: ``open``: Docker's own capabilities but raw packets, for images that change owners or users.
Profile = Literal["strict", "default", "open"]

_USER = re.compile(r"(\d{1,10})(?::(\d{1,10}))?", re.ASCII)
#: The engine takes no number above for a user or a group.
_LARGEST_ID = 2**31 - 1


def _user(value: str | None) -> str | None:
    """Make sure of the group, too: without one the engine takes root's for users it does not know."""
    if value is None:
        return None
    found = _USER.fullmatch(value)
    if found is None:
        raise ValueError("must be the number of a user, or of user and group: 1000:1000")
    user, group = int(found[1]), int(found[2] or found[1])
    if max(user, group) > _LARGEST_ID:
        raise ValueError(f"must have no number above {_LARGEST_ID}")
    return f"{user}:{group}"


class ContainerException(BaseModel):
    """What some images are allowed beside the rest; None where the rest's rule holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: Annotated[tuple[RepositoryPattern, ...], Field(min_length=1)]
    profile: Profile | None = None
    #: Bytes.
    memory_limit: MemoryLimit | None = None
    cpu_limit: CpuLimit | None = None
    pids_limit: PidsLimit | None = None
    #: Bytes of each file system in memory.
    tmpfs_limit: TmpfsLimit | None = None
    #: Bytes that a container may write to its own layer.
    disk_limit: Size | None = None
    #: ``uid`` or ``uid:gid``, in numbers; kept as ``uid:gid``, where a group that is not said is the user's.
    user: Annotated[str | None, AfterValidator(_user)] = None

    def names(self, image: str) -> bool:
        """Whether it holds for an image.

        Args:
            image: registry and repository, such as ``docker.io/d4science/sortapp``.
        """
        return matching(self.images, image) is not None


_NO_EXCEPTION = ContainerException.model_construct(images=())


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContainerLimits:
    """What one image's containers may use; sizes in bytes."""

    profile: Profile
    memory: int
    cpus: float
    pids: int
    #: Of each file system in memory.
    tmpfs: int
    #: What may be written to the container's own layer and volumes; 0: as much as it likes.
    disk: int
    #: ``uid:gid``; empty: the profile's.
    user: str
    #: Every engine forbids new privileges by its own configuration.
    engines_forbid_new_privileges: bool = False


class ContainerRules(BaseModel):
    """The table ``[containers]``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Profile = "default"
    #: The operator's word that each node's ``daemon.json`` sets ``no-new-privileges``. Engines before
    #: API 1.44 take it in no other way, and do not tell; the probe looks from inside.
    engines_forbid_new_privileges: bool = False
    exceptions: tuple[ContainerException, ...] = ()

    def limits_for(self, image: str, settings: Settings) -> ContainerLimits:
        """What an image's containers may do and use.

        Args:
            image: registry and repository, such as ``docker.io/d4science/sortapp``.
            settings: the operator's.
        """
        for exception in self.exceptions:
            if exception.names(image):
                return self._limits(exception, settings)
        return self._limits(_NO_EXCEPTION, settings)

    def limits_of(self, job: Job, settings: Settings) -> ContainerLimits:
        """What a job's container may do and use."""
        return self.limits_for(ImageReference.recorded(job.request.image).name, settings)

    def all_limits(self, settings: Settings) -> list[ContainerLimits]:
        """What any image's containers may do and use: the table's own first, then each exception's."""
        return [self._limits(found, settings) for found in (_NO_EXCEPTION, *self.exceptions)]

    def _limits(self, found: ContainerException, settings: Settings) -> ContainerLimits:
        return ContainerLimits(
            profile=found.profile or self.profile,
            memory=int(found.memory_limit or settings.memory_limit),
            cpus=found.cpu_limit or settings.cpu_limit,
            pids=found.pids_limit or settings.pids_limit,
            tmpfs=int(found.tmpfs_limit or settings.tmpfs_limit),
            disk=int(settings.disk_limit if found.disk_limit is None else found.disk_limit),
            user=found.user or "",
            engines_forbid_new_privileges=self.engines_forbid_new_privileges,
        )
