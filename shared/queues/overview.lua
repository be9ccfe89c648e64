#!lua flags=no-writes
-- What waits in some slots: a look at so many lanes and queues of each, not at all of them.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 lanes, leases, delays and parked queues of each slot at most   then the prefixes of the slots' keys
-- Returns {now ms, dead letters, then for each class and tenant {class:tenant, queues, ms of its oldest item or 0}}.

local most = tonumber(ARGV[1])
local time = redis.call('TIME')
local dead = 0
local queues, oldest = {}, {}

local function look(prefix, class, queue, count)
  local name = class .. ':' .. string.match(queue, '^[^:]*:([^:]*):')
  queues[name] = (queues[name] or 0) + count
  local item = redis.call('LINDEX', prefix .. 'q:' .. queue, 0)
  local at = item and tonumber(string.match(item, '"at":(%d+)') or 0) or 0
  if at > 0 and at < (oldest[name] or math.huge) then
    oldest[name] = at
  end
end

for at = 2, #ARGV do
  local prefix = ARGV[at]
  dead = dead + redis.call('ZCARD', prefix .. 'deadAt')
  for _, lane in ipairs(redis.call('SRANDMEMBER', prefix .. 'lanes', most)) do
    local first = redis.call('LINDEX', prefix .. 'r:' .. lane, 0)
    if first then
      look(prefix, string.match(lane, '^[^:]*'), string.match(first, '^%d+ %d+ (.*)$'), redis.call('LLEN', prefix .. 'r:' .. lane))
    end
  end
  for _, lease in ipairs(redis.call('ZRANGE', prefix .. 'leases', 0, most - 1)) do
    local class, queue = string.match(lease, '^%d+ (%S+) %d+ %d+ %d+ (.*)$')
    look(prefix, class, queue, 1)
  end
  for _, members in ipairs({ redis.call('ZRANGE', prefix .. 'delays', 0, most - 1), redis.call('SRANDMEMBER', prefix .. 'parked', most) }) do
    for _, member in ipairs(members) do
      local class, queue = string.match(member, '^(%S+) (.*)$')
      look(prefix, class, queue, 1)
    end
  end
end

local reply = { string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), dead }
for name, count in pairs(queues) do
  reply[#reply + 1] = { name, count, string.format('%.0f', oldest[name] or 0) }
end
return reply
