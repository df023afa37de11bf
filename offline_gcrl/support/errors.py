"""Errors that a user can fix. Any other exception is a bug and shows its traceback."""


class OfflineGCRLError(Exception):
    """Base class of the errors of this package; the message names the problem and the remedy."""


class SettingsError(OfflineGCRLError):
    """A setting in ``params.yaml`` or in a recipe is wrong."""


class DataError(OfflineGCRLError):
    """A dataset is missing, damaged, or does not fit its recipe."""


class PolicyError(OfflineGCRLError):
    """A policy file is missing or damaged, or the policy does not support a request."""
