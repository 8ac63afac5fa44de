#!lua
-- Write a global descriptor if every guard holds its token (no guards: write in any case).
-- KEYS: guard x n, descriptor
-- ARGV: n, token x n, ttl in milliseconds or '', digest, size, mediatype
-- Returns 1 if written, 0 if a guard does not hold.

-- include: entry.lua

local n = tonumber(ARGV[1])
if not guards_hold(n) then return 0 end
spend_guard(n)
write_descriptor(KEYS[n + 1], ARGV[n + 3], ARGV[n + 4], ARGV[n + 5], ARGV[n + 2])
return 1
