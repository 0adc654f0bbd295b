"""What the files of a checkpoint may say: a table a file, each setting followed, without effect, or held to some values."""
