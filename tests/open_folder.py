"""A test's folder for other users: pytest keeps them all out, of its own folders too."""

from __future__ import annotations

from pathlib import Path


def open_to_all(folder: Path) -> None:
    """Let every user look into a folder, which is below one that they may all look into."""
    while folder.stat().st_mode & 0o005 != 0o005:
        folder.chmod(0o755)
        folder = folder.parent
