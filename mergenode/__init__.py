"""mergenode: a daemon that folds a stream of fine-tuned checkpoints into one always-fresh merged model."""

__version__ = "0.1.0"

__all__ = ["__version__"]
