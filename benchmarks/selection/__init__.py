"""What selection and gates are worth: pools with irrelevant and harmful checkpoints, and what it costs to look."""
