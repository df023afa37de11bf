"""Versions of packages that may be missing."""

from importlib.metadata import PackageNotFoundError, version


def installed_version(package: str) -> str:
    """The version of a package; "not installed" if it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
