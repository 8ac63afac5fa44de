#!lua flags=allow-oom
-- Bury a blob's guard in a repository, and if the blob is a member there remove its membership and
-- media type, and bury and remove the global descriptor too: a repository cannot clear what it does
-- not hold.
-- KEYS: membership guard, membership, override, descriptor guard, descriptor
-- ARGV: tombstone, its life in milliseconds, member
-- Returns 1 if the blob was a member, else 0.

-- include: entry.lua

bury(KEYS[1], ARGV[1], ARGV[2])
if unlink(KEYS[2], ARGV[3]) == 0 then return 0 end
redis.call('DEL', KEYS[3])
bury(KEYS[4], ARGV[1], ARGV[2])
remove_descriptor(KEYS[5])
return 1
