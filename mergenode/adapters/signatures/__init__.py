"""Detached signatures of contributions: keys, what is signed, signing, checking."""
