"""The private state of a node: ledger, statistics, lock. Durable writes only."""
