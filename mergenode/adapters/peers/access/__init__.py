"""Who calls, and what that one may do: keys, certificates, tokens, roles."""
