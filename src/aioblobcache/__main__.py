"""``python -m aioblobcache``: the same as the command ``aioblobcache``."""

from aioblobcache.cli import program

if __name__ == "__main__":
    program()
