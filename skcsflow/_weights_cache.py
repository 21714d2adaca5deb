"""Things made of a network's weights, kept for as long as the weights are what they were."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

__all__ = ["WeightsCache"]

T = TypeVar("T")


class WeightsCache(Generic[T]):
    """Keeps what is made of networks, outside of them: they are copied, pickled and freed as without.

    What is made must not refer to the network that it is made of, or neither is freed.
    """

    def __init__(self) -> None:
        self._of_network: WeakKeyDictionary[nn.Module, tuple[_State, dict[Hashable, T]]] = WeakKeyDictionary()
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
        state = _State(network)
        with self._making:
            made_for, made = self._of_network.get(network, (None, {}))
            if made_for is None or made_for.versions != state.versions:
                made = {}
                self._of_network[network] = state, made
            if key not in made:
                made[key] = make()
            return made[key]


class _State:
    """Which weights a network has, and in which version."""

    def __init__(self, network: nn.Module) -> None:
        tensors = [*network.parameters(), *network.buffers()]
        # Tensors that were made in inference mode have no version.
        self.versions = [(t.data_ptr(), None if t.is_inference() else t._version) for t in tensors]
        # Kept, lest others be given the same memory.
        self.storages = [t.untyped_storage() for t in tensors]
