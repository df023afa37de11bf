"""Worker processes of a user's own program."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_main_module() -> Iterator[None]:
    """Start worker processes within the block without importing the program that is running.

    A worker of ``multiprocessing`` imports the main module first. In a program without ``if __name__ == "__main__"``
    that would run the program again. Workers of this package need only modules of the package.
    """
    main = vars(sys.modules["__main__"])
    hidden: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        main.update(hidden)
