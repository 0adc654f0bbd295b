"""What goes out: publishing to the Hub, exports for other libraries, certificates and model cards."""
