"""Which versions of the engine and its parts are known to be bad."""

from __future__ import annotations

import pytest

from die_algorithm.known_flaws import FLAWS, known_flaws


@pytest.mark.parametrize(
    ("component", "version", "identifier", "is_bad"),
    [
        ("runc", "1.1.5+ds1", "CVE-2024-21626", True),
        ("runc", "1.1.11", "CVE-2024-21626", True),
        ("runc", "1.1.12", "CVE-2024-21626", False),
        ("runc", "1.2.0", "CVE-2024-21626", False),
        ("runc", "1.0.0-rc6", "CVE-2024-21626", True),
        ("runc", "1.2.7", "CVE-2025-31133", True),
        ("runc", "1.2.8", "CVE-2025-31133", False),
        ("runc", "1.3.2", "CVE-2025-31133", True),
        ("runc", "1.3.3", "CVE-2025-31133", False),
        ("runc", "1.1.15", "CVE-2025-31133", True),
        ("runc", "1.4.0", "CVE-2025-31133", False),
        ("runc", "1.4.0-rc.1", "CVE-2025-31133", True),
        ("runc", "1.4.0-rc.3", "CVE-2025-31133", False),
        ("runc", "1.0.0-rc93", "CVE-2021-30465", True),
        ("runc", "1.0.0~rc93+ds1", "CVE-2021-30465", True),
        ("runc", "1.0.0-rc95", "CVE-2021-30465", False),
        ("runc", "1.0.0", "CVE-2021-30465", False),
        ("runc", "1.0.0-rc93", "CVE-2019-5736", False),
        ("Engine", "26.0.0-rc2", "CVE-2024-29018", True),
        ("Engine", "26.0.0-rc3", "CVE-2024-29018", False),
        ("containerd", "2.2.0-beta.1", "CVE-2024-25621", True),
        ("Engine", "20.10.24+dfsg1", "CVE-2024-29018", True),
        ("Engine", "20.10.24+dfsg1", "CVE-2023-28840", False),
        ("Engine", "23.0.10", "CVE-2024-29018", True),
        ("Engine", "23.0.11", "CVE-2024-29018", False),
        ("Engine", "24.0.9", "CVE-2024-29018", True),
        ("Engine", "25.0.5", "CVE-2024-29018", False),
        ("Engine", "v27.3.1", "CVE-2025-54410", True),
        ("Engine", "29.0.0", "CVE-2025-54410", False),
        ("containerd", "1.6.20~ds1", "CVE-2024-25621", True),
        ("containerd", "1.7.29", "CVE-2024-25621", False),
    ],
)
def test_a_flaw_is_known_from_its_line_of_releases(
    component: str, version: str, identifier: str, is_bad: bool
) -> None:
    found = " ".join(flaw.identifier for flaw in known_flaws({component: version}))
    assert (identifier in found) is is_bad


def test_an_engine_of_today_has_no_known_flaw() -> None:
    assert not known_flaws({"Engine": "29.3.1", "containerd": "2.2.1", "runc": "1.4.0"})


@pytest.mark.parametrize("version", ["", "unknown", "dev", "N/A"])
def test_a_version_that_cannot_be_read_is_taken_for_good(version: str) -> None:
    assert not known_flaws({flaw.component: version for flaw in FLAWS})


def test_a_candidate_that_is_good_is_told_as_one() -> None:
    (flaw,) = known_flaws({"runc": "1.4.0-rc.1"})
    assert flaw.good_versions == ["1.2.8", "1.3.3", "1.4.0-rc3"]


def test_the_lines_of_releases_are_in_order() -> None:
    for flaw in FLAWS:
        assert list(flaw.mended) == sorted(flaw.mended)
