#!lua flags=allow-oom
-- Orders all nodes of a name to drain, or to call their drain off. The newest order replaces the one before.
-- KEYS  1 reports (hash: instance → report, a JSON array that begins with the name)   2 heard (sorted set: instance → Unix ms)
--       3 orders (set: 'instance' to drain, 'undrain instance' to call that off)
-- ARGV  1 name   2 ms after which a silent node is gone   3 'drain' or 'undrain'
-- Returns the number of nodes.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = 0
for _, instance in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], string.format('(%.0f', now - ARGV[2]), '+inf')) do
  local report = redis.call('HGET', KEYS[1], instance)
  if report and cjson.decode(report)[1] == ARGV[1] then
    local drain, undrain = instance, 'undrain ' .. instance
    redis.call('SREM', KEYS[3], ARGV[3] == 'drain' and undrain or drain)
    redis.call('SADD', KEYS[3], ARGV[3] == 'drain' and drain or undrain)
    count = count + 1
  end
end
return count
