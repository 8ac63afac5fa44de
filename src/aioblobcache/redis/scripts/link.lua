#!lua
-- Link a blob into a repository if the guard holds its token (no guard: in any case).
-- KEYS: guard x n, membership
-- ARGV: n, token x n, member
-- Returns 1 if linked, 0 if the guard does not hold.

-- include: entry.lua

local n = tonumber(ARGV[1])
if not guards_hold(n) then return 0 end
spend_guard(n)
link(KEYS[n + 1], ARGV[n + 2])
return 1
