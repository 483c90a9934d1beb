"""What a merge keeps of what its experts learnt: real text tasks, a real encoder, every method, several orders."""
