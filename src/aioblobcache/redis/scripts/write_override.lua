#!lua
-- Write a repository's media type for a blob, which alone makes nothing visible.
-- KEYS: override
-- ARGV: ttl in milliseconds or '', mediatype
-- Returns 1.

-- include: entry.lua

write_override(KEYS[1], ARGV[2], ARGV[1])
return 1
