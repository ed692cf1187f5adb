"""A release happens only when tag, version and changelog agree."""

import pytest

from scripts.release_notes import notes

CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.0] - 2026-11-24

### Added

- Something.

## [1.1.0] - 2026-10-01

- Older.
"""


def project(version):
    return f'[project]\nname = "sickbay"\nversion = "{version}"\n'


def test_the_section_of_the_version_becomes_the_notes():
    assert notes("1.2.0", CHANGELOG, project("1.2.0")) == "### Added\n\n- Something.\n"
    assert notes("1.1.0", CHANGELOG, project("1.1.0")) == "- Older.\n"


@pytest.mark.parametrize(("tag", "version"), [("1.2.0", "1.1.0"), ("1.3.0", "1.3.0"), ("1.2", "1.2")])
def test_what_does_not_agree_is_no_release(tag, version):
    with pytest.raises(ValueError, match=r"says|no section"):
        notes(tag, CHANGELOG, project(version))
