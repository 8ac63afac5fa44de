"""Mutation testing: change the library in one place at a time and check that a test fails.

Run it with ``nox -s mutants`` or ``python -m tests.mutation``; ``--help`` lists the options. ``targets.toml`` says
which sources are changed and which tests must notice; ``accepted.toml`` lists survivors that were reviewed.
"""
