"""Merge methods: pure functions, one file each. Adding one is a file, a line in METHODS and a test file."""
