"""Commands only: arguments, progress bars, tables, exit codes. No decisions."""
