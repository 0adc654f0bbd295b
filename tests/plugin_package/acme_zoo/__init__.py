"""A package of somebody else: each file adds one part to the zoo, and its entry points name the files."""
