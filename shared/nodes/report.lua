#!lua flags=allow-oom
-- Stores the report of a node, and assigns its share of the admission budget.
-- KEYS  1 heard (sorted set: instance → Unix ms of its last report)   2 reports (hash: instance → report)
--       3 shares (hash: instance → 'inForce share weight heard state')   4 orders (set: 'instance' to drain, 'undrain instance' to call that off)
--       5 fleet (hash: replid, heard, settled, inForce, weights, blind, version)
-- ARGV  1 instance   2 report   3 state   4 weight   5 share that the node holds; '': it just started and holds none
--       6 budget to distribute   7 budget that may be in force
--       8 budget for nodes without a share while the shares in force are unknown   9 ms after which a silent node is gone
--       10 ms without any report after which the stored shares may be outdated   11 version of the caller's view   12 its Unix ms
--       13 ms per node that a view may be old
-- Shares are whole numbers. In force is the larger of a node's assigned and held share: the node may have missed the last answer.
-- Returns {share, order: 1 drain, 2 undrain, 0 none, now, version, reports, shares}; the last two, of all nodes, only where the view is due.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local whole = function(number) return string.format('%.0f', number) end
local instance, state = ARGV[1], ARGV[3]
local weight, held = tonumber(ARGV[4]), tonumber(ARGV[5]) or 0
local known = redis.call('HGET', KEYS[3], instance)

local fleet = redis.call('HMGET', KEYS[5], 'replid', 'heard', 'settled', 'inForce', 'weights', 'blind', 'version')
local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local heard, settled = tonumber(fleet[2] or '0'), tonumber(fleet[3] or '0')
local inForceSum, weights, blind = tonumber(fleet[4] or '0'), tonumber(fleet[5] or '0'), tonumber(fleet[6] or '0')
-- Versions begin at the current time, so that one from before a loss of memory does not repeat.
local version = tonumber(fleet[7] or whole(now))

-- The stored shares may be wrong: a new or restarted primary may lack writes, and one that was out of reach is outdated. Every live
-- node reports within the time after which it would count as gone. Until then no node gets more than it says it holds.
-- The same holds if the clock of Redis was set back: then reports seem to lie in the future.
local away = redis.call('ZCARD', KEYS[1]) > 0 and (now - heard > tonumber(ARGV[10]) or heard > now)
-- A starting node that finds no fleet begins one. A node that reports soon after and holds a share proves that there was a fleet.
local existed = not known and held > 0 and now >= settled and now - settled < tonumber(ARGV[9])
if not fleet[1] and ARGV[5] == '' then
  settled = now
elseif fleet[1] ~= replid or away or existed then
  settled = now + ARGV[9]
  blind = 0
  version = version + 1
end

local forget = function(instances)
  for _, gone in ipairs(instances) do
    local itsInForce, _, itsWeight = string.match(redis.call('HGET', KEYS[3], gone) or '0 0 0', '^(%d+) (%d+) (%d+)')
    inForceSum = inForceSum - itsInForce
    weights = weights - itsWeight
    redis.call('ZREM', KEYS[1], gone)
    redis.call('HDEL', KEYS[2], gone)
    redis.call('HDEL', KEYS[3], gone)
    redis.call('SREM', KEYS[4], gone, 'undrain ' .. gone)
    version = version + 1
  end
end
if now >= settled then
  forget(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', whole(now - ARGV[9])))
  forget(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. whole(now), '+inf'))
end

-- Read again: it may have been removed just now.
known = redis.call('HGET', KEYS[3], instance)
local lastInForce, _, lastWeight, _, lastState = string.match(known or '0 0 0 0 ', '^(%d+) (%d+) (%d+) (%d+) (.*)$')
local othersInForce = inForceSum - lastInForce
weights = weights - lastWeight + weight
local share = 0
if weights > 0 then
  share = math.floor(tonumber(ARGV[6]) * weight / weights)
end
if now >= settled then
  local free = math.max(0, tonumber(ARGV[7]) - othersInForce)
  if not known and held == 0 then
    -- Leaves half of the reserve for joining nodes to the next one.
    free = free - math.ceil(math.min(free, ARGV[7] - ARGV[6]) / 2)
  end
  share = math.min(share, free)
elseif held > 0 then
  share = math.min(share, held)
else
  share = math.min(share, math.floor(math.max(0, tonumber(ARGV[8]) - blind) / 2))
  blind = blind + share
end
local inForce = math.max(held, share)
if lastState ~= state then
  version = version + 1
end

redis.call('ZADD', KEYS[1], whole(now), instance)
redis.call('HSET', KEYS[2], instance, ARGV[2])
redis.call('HSET', KEYS[3], instance, whole(inForce) .. ' ' .. whole(share) .. ' ' .. whole(weight) .. ' ' .. whole(now) .. ' ' .. state)
redis.call('HSET', KEYS[5], 'replid', replid, 'heard', whole(now), 'settled', whole(settled),
  'inForce', whole(othersInForce + inForce), 'weights', whole(weights), 'blind', whole(blind), 'version', whole(version))

local order = redis.call('SISMEMBER', KEYS[4], instance)
if order == 0 then
  order = 2 * redis.call('SISMEMBER', KEYS[4], 'undrain ' .. instance)
end
local reply = { whole(share), order, whole(now), whole(version) }
if ARGV[11] ~= whole(version) or now - ARGV[12] >= redis.call('ZCARD', KEYS[1]) * ARGV[13] then
  reply[5] = redis.call('HGETALL', KEYS[2])
  reply[6] = redis.call('HGETALL', KEYS[3])
end
return reply
