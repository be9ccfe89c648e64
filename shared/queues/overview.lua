#!lua flags=no-writes
-- Reads what waits in some slots, from a bounded number of lanes and queues of each.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 lanes, leases, delays, parked queues and depths of each slot at most   then the prefixes of the slots' keys
-- Returns {now ms, dead letters, {class:tenant and its items, of the slots that have no more of them}, {of which slots they are not
-- counted, from 0}, then for each class, service and tenant
-- {class:service:tenant, queues, their items, items in flight, ms of its oldest item or 0}}. Where a slot has more leases than are looked
-- at, those stand for the others.

local most = tonumber(ARGV[1])
local time = redis.call('TIME')
local dead = 0
local depths, uncounted = {}, {}
local figures = {}

local function look(prefix, class, queue, count, inFlight)
  local name = class .. ':' .. string.match(queue, '^([^:]*:[^:]*):')
  local figure = figures[name] or { queues = 0, items = 0, inFlight = 0, oldestAt = math.huge }
  figures[name] = figure
  local list = prefix .. 'q:' .. queue
  figure.queues = figure.queues + count
  figure.items = figure.items + count * redis.call('LLEN', list) / 2
  figure.inFlight = figure.inFlight + count * inFlight
  local content = redis.call('LINDEX', list, 1)
  local at = content and tonumber(string.match(content, '^(%d+) ') or 0) or 0
  if at > 0 then
    figure.oldestAt = math.min(figure.oldestAt, at)
  end
end

for at = 2, #ARGV do
  local prefix = ARGV[at]
  dead = dead + redis.call('ZCARD', prefix .. 'deadAt')
  local tenants = redis.call('HLEN', prefix .. 'depths')
  if tenants > most then
    uncounted[#uncounted + 1] = at - 2
  elseif tenants > 0 then
    local counts = redis.call('HGETALL', prefix .. 'depths')
    for field = 1, #counts, 2 do
      depths[counts[field]] = (depths[counts[field]] or 0) + counts[field + 1]
    end
  end
  for _, lane in ipairs(redis.call('SRANDMEMBER', prefix .. 'lanes', most)) do
    local first = redis.call('LINDEX', prefix .. 'r:' .. lane, 0)
    if first then
      look(prefix, string.match(lane, '^[^:]*'), string.match(first, '^%d+ %d+ (.*)$'), redis.call('LLEN', prefix .. 'r:' .. lane), 0)
    end
  end
  local leases = redis.call('ZRANGE', prefix .. 'leases', 0, most - 1)
  local stands = #leases == most and redis.call('ZCARD', prefix .. 'leases') / most or 1
  for _, lease in ipairs(leases) do
    local class, items, queue = string.match(lease, '^%d+ (%S+) (%d+) %d+ %S* %S* %d+ %d+ (.*)$')
    look(prefix, class, queue, stands, tonumber(items))
  end
  for _, members in ipairs({ redis.call('ZRANGE', prefix .. 'delays', 0, most - 1), redis.call('SRANDMEMBER', prefix .. 'parked', most) }) do
    for _, member in ipairs(members) do
      local class, queue = string.match(member, '^(%S+) (.*)$')
      look(prefix, class, queue, 1, 0)
    end
  end
end

local counted = {}
for name, items in pairs(depths) do
  counted[#counted + 1] = name
  counted[#counted + 1] = items
end
local reply = { string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), dead, counted, uncounted }
for name, figure in pairs(figures) do
  local oldestAt = figure.oldestAt == math.huge and 0 or figure.oldestAt
  reply[#reply + 1] = { name, math.ceil(figure.queues), math.ceil(figure.items), math.ceil(figure.inFlight), string.format('%.0f', oldestAt) }
end
return reply
