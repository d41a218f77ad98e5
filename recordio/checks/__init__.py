"""What a data set is and whether it is whole: inspection and verification."""
