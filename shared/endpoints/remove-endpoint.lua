#!lua flags=allow-oom
-- Deletes an endpoint, and announces the change.
-- KEYS  1 documents (hash)   2 versions (hash)   3 changed (zset)
-- ARGV  1 id   2 topic
-- Returns 1, or 0 where there is none.
-- include change-endpoint.part.lua

local removed = redis.call('HDEL', KEYS[1], ARGV[1])
if removed == 1 then
  nextVersion(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
  redis.call('SPUBLISH', ARGV[2], ARGV[1])
end
return removed
