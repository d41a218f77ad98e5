"""Values of records: strict casts under a signature, inference, and the arrays that stand for them in memory."""
