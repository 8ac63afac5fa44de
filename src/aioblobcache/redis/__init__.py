"""The Redis side: key layout, wire format, write scripts, and the provider over them."""
