"""``python -m aioblobcache``: the same as the command ``aioblobcache``."""

from .cli import main

if __name__ == "__main__":
    main()
