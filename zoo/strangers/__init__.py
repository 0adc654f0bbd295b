"""Opening what others made: files that may be links, lie, or grow, read so that they do no harm."""
