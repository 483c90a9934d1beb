"""How neighbours' models combine: who mixes with whom, in which share, and which units correspond.

Pure: tensors and numbers come in, tensors and numbers go out. ``topology`` has graphs of peers and mixing weights;
``graph`` derives which axes of a network's tensors are permuted together; ``activation_matching`` and
``weight_matching`` choose the permutations; ``mix`` applies them and adds up.
"""
