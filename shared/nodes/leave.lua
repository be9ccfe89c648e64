#!lua flags=allow-oom
-- Removes a node that stops, and frees its share.
-- KEYS  1 heard (sorted set)   2 reports (hash)   3 shares (hash: instance → 'inForce share weight …')   4 orders (set)
--       5 fleet (hash: inForce, weights, version)
-- ARGV  1 instance
-- Returns 1, or 0 for an unknown node.

local known = redis.call('HGET', KEYS[3], ARGV[1])
redis.call('SREM', KEYS[4], ARGV[1], 'undrain ' .. ARGV[1])
if not known then
  return 0
end
local inForce, _, weight = string.match(known, '^(%d+) (%d+) (%d+)')
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('HINCRBY', KEYS[5], 'inForce', string.format('%.0f', 0 - inForce))
redis.call('HINCRBY', KEYS[5], 'weights', string.format('%.0f', 0 - weight))
redis.call('HINCRBY', KEYS[5], 'version', 1)
return 1
