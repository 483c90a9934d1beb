"""Facts and the decisions that follow from them, without I/O and without tensors."""
