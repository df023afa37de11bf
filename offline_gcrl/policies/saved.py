"""Files of tensors and plain values, with a digest of their content that is checked when they are read.

torch checks neither the checksums of its files nor their size: a flipped bit would load as another weight.
"""

import hashlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offline_gcrl.support.errors import PolicyError
from offline_gcrl.support.files import write_bytes
from offline_gcrl.support.memory import is_out_of_memory

DIGEST = "digest"


def write_content(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values to a file; the same content gives the same bytes.

    Args:
        path: file, which is replaced at once.
        content: dictionaries and lists of tensors, numbers, text and None.
    """
    buffer = io.BytesIO()  # The name of a file would become part of its bytes.
    torch.save(_interned({**content, DIGEST: content_digest(content)}), buffer)
    write_bytes(path, buffer.getvalue())


def read_content(
    path: Path, device: torch.device | str = "cpu", data: bytes | None = None
) -> dict[str, Any]:
    """Read what ``write_content`` wrote.

    Args:
        path: file.
        device: of the tensors.
        data: what the file contained when it was read, if it was read before; the path is for errors only then.

    Raises:
        FileNotFoundError: there is no such file.
        PolicyError: the file is damaged, or not one of these.
    """
    try:
        source = path if data is None else io.BytesIO(data)
        content = torch.load(source, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise
    except (
        Exception
    ) as error:  # A damaged file can raise anything, with advice that does not apply.
        if is_out_of_memory(error):
            raise
        raise PolicyError(
            f"{path}: not a policy file, or a damaged one ({type(error).__name__})"
        ) from None
    if not isinstance(content, dict) or DIGEST not in content:
        raise PolicyError(f"{path}: not a policy file of this version")
    expected = content.pop(DIGEST)
    if content_digest(content) != expected:
        raise PolicyError(
            f"{path}: is damaged: its content does not have the digest that was written with it"
        )
    return content


def _interned(value: Any) -> Any:
    """The same content with one object per text: pickle writes a text that is the same object as another as a reference."""
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, Mapping):
        return {_interned(key): _interned(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_interned(own) for own in value)
    return value


def content_digest(content: Any) -> str:
    """SHA-256 of tensors and plain values."""
    total = hashlib.sha256()
    _update(total, content)
    return total.hexdigest()


def _update(total: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        array = value.detach().cpu().contiguous()
        total.update(f"{array.dtype}{tuple(array.shape)}".encode())
        total.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
        return
    try:
        total.update(json.dumps(value).encode())
    except TypeError:  # There are tensors in it.
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            total.update(f"{key!r}:".encode())
            _update(total, item)
