"""What goes in: items, images, videos, and what is the same thing."""
