"""Checkpoints on disk: headers validated before anything is believed, bytes read into own buffers."""

from mergenode.adapters.checkpoints.digest import content_digest

__all__ = ["content_digest"]
