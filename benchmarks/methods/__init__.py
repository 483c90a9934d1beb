"""What a fold and an export of each method of the sum family cost, beside what they cannot do without."""
