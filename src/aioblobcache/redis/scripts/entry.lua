-- What the scripts share: how an entry is written and removed.

-- A key of another type can be neither written nor read as ours; nothing of worth is lost with it.
local function delete_other_type(key, kind)
  local found = redis.call('TYPE', key).ok
  if found == kind or found == 'none' then return 0 end
  return redis.call('DEL', key)
end

-- The first n keys are guards, and hold what ARGV[2] and the following say. A guard that is absent,
-- was buried or belongs to a later miss permits nothing.
local function guards_hold(n)
  for i = 1, n do
    if redis.call('GET', KEYS[i]) ~= ARGV[1 + i] then return false end
  end
  return true
end

-- The first guard is the scope's own, and spent; others are shared with the misses of other
-- repositories, and are left to expire.
local function spend_guard(n)
  if n > 0 then redis.call('DEL', KEYS[1]) end
end

local function expire(key, ttl)
  if ttl ~= '' then redis.call('PEXPIRE', key, ttl) end
end

-- A media type that is there stays, unless no reader could accept it (descriptor.is_media_type).
local function write_descriptor(key, digest, size, mediatype, ttl)
  delete_other_type(key, 'hash')
  redis.call('HSET', key, 'digest', digest, 'size', size)
  local present = redis.call('HGET', key, 'mediatype')
  if not present or #present > 1024 or string.find(present, '[^\32-\126]') then
    redis.call('HSET', key, 'mediatype', mediatype)
  end
  expire(key, ttl)
end

local function write_override(key, mediatype, ttl)
  delete_other_type(key, 'hash')
  redis.call('HSET', key, 'mediatype', mediatype)
  expire(key, ttl)
end

local function link(key, member)
  delete_other_type(key, 'set')
  redis.call('SADD', key, member)
end

local function unlink(key, member)
  if redis.call('TYPE', key).ok ~= 'set' then return 0 end
  return redis.call('SREM', key, member)
end

-- Fields of others in the hash survive; `length` is what releases of 2014 wrote for `size`.
local function remove_descriptor(key)
  local deleted = delete_other_type(key, 'hash')
  if deleted == 1 then return 1 end
  return redis.call('HDEL', key, 'digest', 'size', 'mediatype', 'length')
end

local function bury(guard, tombstone, life)
  redis.call('SET', guard, tombstone, 'PX', life)
end
