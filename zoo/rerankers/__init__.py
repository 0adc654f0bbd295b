"""Rerankers by family, one short file each; see `zoo.reranking`."""
