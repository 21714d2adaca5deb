"""Digests of plain data, by which damaged files are told."""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import torch

__all__ = ["digest_of"]


def digest_of(state: dict[str, Any]) -> str:
    """A digest of all numbers and strings in a dict.

    Parameters
    ----------
    state : dict
        What is saved in a file. Numbers count by their value and not by their type, which some formats change. Of
        objects that are none of plain values, arrays, tensors, lists and dicts, such as a generator, only the class
        counts.

    Returns
    -------
    str
        The digest.

    Examples
    --------
    >>> from skcsflow._digests import digest_of
    >>> digest_of({"a": 1}) == digest_of({"a": 2})
    False
    """
    digest = blake2b(digest_size=16)
    for piece in _pieces(state):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(value: Any) -> Iterator[bytes | memoryview]:
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        yield f"array {value.dtype.str} {value.shape} ".encode()
        yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    elif isinstance(value, dict):
        yield f"dict {len(value)} ".encode()
        for key in sorted(value, key=repr):
            yield from _pieces(key)
            yield from _pieces(value[key])
    elif isinstance(value, list | tuple | np.ndarray):
        yield f"list {len(value)} ".encode()
        for item in value:
            yield from _pieces(item)
    elif isinstance(value, set | frozenset):
        yield from _pieces(sorted(value, key=repr))
    elif isinstance(value, str | bytes | int | float | None):
        yield f"{value!r} ".encode("utf-8", "surrogatepass")
    else:
        yield f"{type(value).__qualname__} ".encode()
