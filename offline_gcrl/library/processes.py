"""Worker processes of a user's own program."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def without_main_module() -> Iterator[None]:
    """Start worker processes within the block without importing the program that is running.

    A worker of ``multiprocessing`` imports the main module first. In a program without ``if __name__ == "__main__"``
    that would run the program again. Workers of this package need only modules of the package.
    """
    main = sys.modules["__main__"]
    hidden = {name: vars(main).get(name) for name in ("__file__", "__spec__")}
    _set(main, dict.fromkeys(hidden))
    try:
        yield
    finally:
        _set(main, hidden)


def _set(module: ModuleType, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        setattr(module, name, value)
