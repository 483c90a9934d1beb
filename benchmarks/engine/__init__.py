"""The streaming engine beside plain loops and beside itself: time, bytes, latency, memory."""
