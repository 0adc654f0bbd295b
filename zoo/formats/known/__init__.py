"""What the files of a checkpoint may say: one table per file, each setting followed, without effect, or held to some values."""
