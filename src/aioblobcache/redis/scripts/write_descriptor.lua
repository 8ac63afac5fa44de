#!lua
-- Write the global descriptor of a blob of a repository, which alone makes nothing visible there, if the
-- guard holds its token (no guard: in any case). The guard is left for others who hold it.
-- KEYS: guard x n, descriptor
-- ARGV: n, token x n, ttl in milliseconds or '', digest, size, mediatype
-- Returns 1 if written, 0 if a guard does not hold.

-- include: entry.lua

local n = tonumber(ARGV[1])
if not guards_hold(n) then return 0 end
write_descriptor(KEYS[n + 1], ARGV[n + 3], ARGV[n + 4], ARGV[n + 5], ARGV[n + 2])
return 1
