"""Write the table of settings into the README, from the settings themselves."""

from __future__ import annotations

from pathlib import Path

from die_algorithm.settings import Settings

README = Path(__file__).resolve().parent.parent / "README.md"
_BEGIN = "<!-- settings: made by scripts/settings_table.py, held by a test -->\n"
_END = "<!-- end of settings -->\n"


def table() -> str:
    """The table in Markdown."""
    lines = ["| setting | default | what |", "|---|---|---|"]
    for name, default, description in Settings.table():
        shown = f"`{default}`" if default else ""
        lines.append(f"| `{name}` | {shown} | {description} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """A README's text with the table as it should be."""
    before, _, rest = text.partition(_BEGIN)
    return f"{before}{_BEGIN}{table()}{_END}{rest.partition(_END)[2]}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
