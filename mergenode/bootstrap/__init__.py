"""The composition root: settings become adapters, adapters become a node. Nobody else knows everybody."""
