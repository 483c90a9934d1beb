"""Places where checkpoints appear. Listings are the truth; events only shorten the wait."""
