"""Where finished spans go: a bounded queue, and from there an OpenTelemetry collector."""
