"""Worker processes of a user's own program."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

HIDDEN = ("__file__", "__spec__")
"""What multiprocessing imports the main module by."""


@contextmanager
def without_main_module() -> Iterator[None]:
    """Start worker processes within the block without importing the program that is running.

    A worker of ``multiprocessing`` imports the main module first. In a program without ``if __name__ == "__main__"``
    that would run the program again. Workers of this package need only modules of the package.
    """
    main = vars(sys.modules["__main__"])
    before = {name: main[name] for name in HIDDEN if name in main}
    # A notebook may have neither, and multiprocessing reads both.
    main.update(dict.fromkeys(HIDDEN))
    try:
        yield
    finally:
        for name in HIDDEN:
            main.pop(name, None)
        main.update(before)
