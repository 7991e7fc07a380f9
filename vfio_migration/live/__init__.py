"""Live migration of one machine into another: source, destination, and the stream between them."""
