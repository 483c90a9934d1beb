"""Checkpoints on disk: headers validated before anything is believed, bytes read into own buffers."""
