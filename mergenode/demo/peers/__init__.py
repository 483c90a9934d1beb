"""`mergenode demo --peers`: nodes that train on their own data and mix their models; nothing downloaded."""
