"""Loading: from a plan of what comes next to the batches that users get."""
