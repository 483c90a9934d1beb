"""How a fold is executed: local threads today; other engines beside it."""
