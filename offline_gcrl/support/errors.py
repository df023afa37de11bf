"""Errors a user can act on. Anything else that is raised is a bug and shows its traceback."""


class OfflineGCRLError(Exception):
    """Base of every error that the package raises on purpose; its text is a sentence with a remedy."""


class SettingsError(OfflineGCRLError):
    """A setting in ``params.yaml`` or in a recipe is wrong."""


class DataError(OfflineGCRLError):
    """A dataset is missing, broken, or does not fit its recipe."""


class PolicyError(OfflineGCRLError):
    """A policy file is missing or broken, or is asked for something it cannot do."""
