#!lua
-- Link blobs into a repository if every guard holds its token (no guards: in any case): membership,
-- global descriptor and the repository's media type, for each of m digests of the same content.
-- KEYS: guard x n, membership, (descriptor, override) x m
-- ARGV: n, token x n, ttl in milliseconds or '', digest, size, mediatype, member x m
-- Returns 1 if written, 0 if a guard does not hold.

-- include: entry.lua

local n = tonumber(ARGV[1])
if not guards_hold(n) then return 0 end
spend_guard(n)
local ttl, digest, size, mediatype = ARGV[n + 2], ARGV[n + 3], ARGV[n + 4], ARGV[n + 5]
for i = 1, #ARGV - n - 5 do
  write_descriptor(KEYS[n + 2 * i], digest, size, mediatype, ttl)
  write_override(KEYS[n + 1 + 2 * i], mediatype, ttl)
  link(KEYS[n + 1], ARGV[n + 5 + i])
end
return 1
