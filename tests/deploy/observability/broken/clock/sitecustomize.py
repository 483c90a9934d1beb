"""A sound node in a world where half a minute is two seconds: it waits less for a source that is silent.

The windows of the alerts are shortened, so what they count has to come faster as well.
"""

from __future__ import annotations

from mergenode.adapters.peers.weights.sources import Patience

Patience.__init__.__defaults__ = (2.0, 1e9, 600.0, 1e6, 0.2, 1.0)
