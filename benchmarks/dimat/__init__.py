"""What mixing with neighbours is worth: a ring of five, by split of the data and by how units are matched."""
