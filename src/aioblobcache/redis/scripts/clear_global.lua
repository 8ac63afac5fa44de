#!lua flags=allow-oom
-- Bury a blob's global guard and remove its global descriptor.
-- KEYS: guard, descriptor
-- ARGV: tombstone, its life in milliseconds
-- Returns how many fields were removed; 0: nothing was known.

-- include: entry.lua

bury(KEYS[1], ARGV[1], ARGV[2])
return remove_descriptor(KEYS[2])
