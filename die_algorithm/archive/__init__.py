"""The result zip: a folder of the workspace, fetched, proved whole, and published in one move.

StorageHub makes the zip. It may be silently incomplete, because an entry that fails is skipped and
hidden items are left out (reference: storagehub 1.5), and it carries whatever names the items have.
So it is compared with the folder's listing, and each entry is read and its checksum verified:

- a zip that is whole and safe is published as it came, byte for byte;
- what is lacking or damaged is fetched file by file, hidden items too, for the program wrote them;
- names that are not safe to unpack are replaced, with a note for each;
- what is neither folder nor file cannot be in a zip: it is left out, with a note, and counted.

Nothing is published that the listing contradicts. The disk holds one copy, two while a zip has to be
written anew; memory holds the listing and a few MiB.

============ ==================================================================
build        the rounds of fetching until a zip can be published
round        one try, and the publishing
folder       the folder as the caller opens it, and its limits
inspection   what a zip is good for
verification the bytes of an entry read strictly
layout       whether a zip holds the same for every reader
heads        the heads in front of entries, and their extra fields
entries      what the zip should hold
names        names that are safe to unpack
disk         what an error of the disk means
single_files pictures and tables beside a published zip
============ ==================================================================
"""

from die_algorithm.archive.build import build_archive
from die_algorithm.archive.disk import LEAST_FREE, disk_errors
from die_algorithm.archive.single_files import extract_single_files, media_type_of

__all__ = ["LEAST_FREE", "build_archive", "disk_errors", "extract_single_files", "media_type_of"]
