#!lua flags=allow-oom
-- Makes queues ready whose lease has expired, ahead of others and with one more failed attempt, and queues whose next attempt is due.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 queues of each slot at most, then the prefixes of the slots' keys
-- Returns ms until the next lease or delay of any slot ends, 0 where any had ended already (there may be more), -1 where there was none.
-- include ready.part.lua

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local nextMs = -1
local function look(name, limit)
  local first = redis.call('ZRANGE', name, 0, 0, 'WITHSCORES')
  if first[2] then
    local leftMs = math.max(0, tonumber(first[2]) - now)
    if nextMs < 0 or leftMs < nextMs then
      nextMs = leftMs
    end
    if leftMs == 0 then
      return redis.call('ZRANGE', name, '-inf', string.format('%.0f', now), 'BYSCORE', 'LIMIT', 0, limit)
    end
  end
  return {}
end
for at = 2, #ARGV do
  local prefix = ARGV[at]
  for _, lease in ipairs(look(prefix .. 'leases', ARGV[1])) do
    local class, attempts, rest, service, tenant = string.match(lease, '^%d+ (%S+) %d+ %d+ %S* %S* (%d+)( %d+ ([^:]*):([^:]*):.*)$')
    redis.call('ZREM', prefix .. 'leases', lease)
    makeReady(prefix, laneOf(class, service, 'r', tenant), string.format('%d', attempts + 1) .. rest, true)
  end
  for _, delayed in ipairs(look(prefix .. 'delays', ARGV[1])) do
    local class, queue, service, tenant = string.match(delayed, '^(%S+) (([^:]*):([^:]*):.*)$')
    local held = redis.call('HMGET', prefix .. 'k:' .. queue, 'attempts', 'previous')
    redis.call('ZREM', prefix .. 'delays', delayed)
    redis.call('DEL', prefix .. 'k:' .. queue)
    makeReady(prefix, laneOf(class, service, 'r', tenant), (held[1] or '0') .. ' ' .. (held[2] or '0') .. ' ' .. queue, false)
  end
  pushReady(prefix)
end
tellReady()
return nextMs
