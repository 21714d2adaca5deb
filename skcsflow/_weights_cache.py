"""Things made of a network's weights, kept for as long as the weights are what they were."""

import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

__all__ = ["WeightsCache"]

T = TypeVar("T")


class WeightsCache(Generic[T]):
    """Keeps what is made of networks, outside of them: they are copied, pickled and freed as without.

    What is made must not refer to the network that it is made of, or neither is freed.
    """

    def __init__(self) -> None:
        self._of_network: WeakKeyDictionary[nn.Module, tuple[Any, dict[Hashable, T]]] = WeakKeyDictionary()
        self._making = threading.Lock()

    def get_or_make(self, network: nn.Module, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made of this network for this key; made anew when its weights have changed.

        Parameters
        ----------
        network : nn.Module
            The network.
        key : hashable
            What else it depends on.
        make : callable
            Makes it. Called by one thread at a time.

        Returns
        -------
        object
            What `make` returned, now or before.
        """
        weights = [(t.data_ptr(), t._version) for t in [*network.parameters(), *network.buffers()]]
        with self._making:
            made_for, made = self._of_network.get(network, (None, {}))
            if made_for != weights:
                made = {}
                self._of_network[network] = weights, made
            if key not in made:
                made[key] = make()
            return made[key]
