"""Generated from proto/mergenode/v1 by ``python -m tests.support.generated_wire``; never edited by hand."""
