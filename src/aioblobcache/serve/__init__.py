"""A read-only registry as a program: any storage, this cache in front of it, uvicorn underneath."""
