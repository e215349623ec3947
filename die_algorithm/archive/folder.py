"""The folder that is fetched, as the caller opens it, and the limits that it must keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

from die_algorithm.errors import ArchiveTooLarge
from die_algorithm.models import Item, ListedItem

Chunks = AbstractContextManager[Iterable[bytes]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultFolder:
    """The folder, as the caller opens it."""

    top: str
    listing: Callable[[], Sequence[ListedItem]]
    folder_zip: Callable[[], Chunks]
    single_file: Callable[[Item], Chunks]
    max_size: int
    max_files: int

    def listed(self) -> Sequence[ListedItem]:
        """List it, and see that it is within the limits."""
        listing = self.listing()
        if len(listing) > self.max_files:
            raise ArchiveTooLarge(
                f"The result has more than {self.max_files} files and folders, the most that this "
                "service takes. It remains in the workspace, in the folder of the job."
            )
        self.check_size(sum(listed.item.size or 0 for listed in listing))
        return listing

    def check_size(self, size: int) -> None:
        """Refuse a number of bytes that is more than the operator allows."""
        if size > self.max_size:
            raise ArchiveTooLarge(
                f"The result is too large: its files have {_human(size)}, and this service takes "
                f"{_human(self.max_size)}. It remains in the workspace, in the folder of the job."
            )


def _human(size: int) -> str:
    """A size for a sentence, in units of 1000."""
    number = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.4g} TB"
