"""The side of the team: pushing a model to a node."""
