"""Benchmarks: tables of speed and memory, side by side with the libraries people use today. Nothing is asserted."""
