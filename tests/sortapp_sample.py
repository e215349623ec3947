"""The example's file, and what the example image makes of it."""

from __future__ import annotations

import io
import subprocess
import zipfile
from pathlib import Path

SAMPLE = Path(__file__).parents[1] / "examples" / "sortapp" / "sortableelements.txt"


def sorted_sample() -> list[str]:
    """The words that the result is to hold."""
    return sorted(SAMPLE.read_text().split())


def assert_sorted_zip(content: bytes, tmp_path: Path) -> None:
    """See that a zip is that of a job of the example, whole and right."""
    file = tmp_path / "result.zip"
    file.write_bytes(content)
    subprocess.run(["unzip", "-tq", file], check=True, stdout=subprocess.DEVNULL)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        names = [name for name in archive.namelist() if not name.endswith("/")]
        assert [name.partition("/")[2] for name in names] == ["elements.txt"]
        assert names[0].startswith("die-")
        assert archive.read(names[0]).decode().split() == sorted_sample()
