"""The streaming engine of one machine: tensor by tensor, out of core, bounded buffers."""
