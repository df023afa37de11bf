"""Batches as a pure function of (seed, step): what makes resume exact and runs comparable.

``data`` is the dataset as tensors on the device, ``tables`` the hindsight goals of a mixture, ``draw`` which
transitions and goals a batch takes, ``fields`` what is read of them, and ``sampler`` puts them together.
"""
