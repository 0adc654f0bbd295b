"""What goes in: items, and the only room that knows decoders of images and videos."""
