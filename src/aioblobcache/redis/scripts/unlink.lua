#!lua flags=allow-oom
-- Bury a blob's guard in a repository and remove its membership.
-- KEYS: membership guard, membership
-- ARGV: tombstone, its life in milliseconds, member
-- Returns 1 if the blob was a member, else 0.

-- include: entry.lua

bury(KEYS[1], ARGV[1], ARGV[2])
return unlink(KEYS[2], ARGV[3])
