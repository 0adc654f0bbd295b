"""Tests of the zoo: offline, on the CPU, in seconds."""
