"""Gates: checks that a contribution must pass, one file each. Adding one is a file, a line in GATES and a test file."""
