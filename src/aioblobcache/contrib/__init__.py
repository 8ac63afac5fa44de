"""This library in web frameworks, metrics and traces: each module is an extra of its own."""
