"""Vectors on disk: a folder of shards with ids, attributes and what was embedded; written by `zoo.bulk`, read by all."""
