"""Encoders: each reads some modalities and returns token states. One file each; nothing is imported before it is used."""
