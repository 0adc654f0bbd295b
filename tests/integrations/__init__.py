"""LangChain, LlamaIndex, sentence-transformers."""
