"""The task plug-in in a process of its own: JSON lines on two pipes, weights by the paths of safetensors files."""
