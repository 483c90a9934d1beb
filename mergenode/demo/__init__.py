"""`mergenode demo`: the whole story on real data, nothing downloaded."""
