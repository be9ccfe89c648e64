#!lua flags=allow-oom
-- A node says how it is, and hears how many connections it may let in.
-- KEYS  1 heard (sorted set: instance → Unix ms of its last report)   2 reports (hash: instance → report)
--       3 shares (hash: instance → 'inForce share weight heard state')   4 orders to drain (set of instances)
--       5 fleet (hash: replid, heard, settled, inForce, weights, blind, version)
-- ARGV  1 instance   2 report   3 state   4 weight   5 share that it holds; '': it begins, and holds none   6 budget to be shared out   7 budget that may be in force
--       8 budget for those who hold nothing, while it is not known what is in force   9 ms after which a node is gone
--       10 ms without any report after which what is known may be old   11 version of the caller's view   12 its Unix ms
--       13 ms for each node that a view may be old
-- Shares are whole numbers. In force are the larger of what a node was given and what it says it holds: it may not have had the answer.
-- Returns {share, 1 or 0: told to drain, now, version, reports, shares}; the last two, of all nodes, only where the view is due.

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
-- A version begins at the time: one of before the memory was lost does not come again.
local version = tonumber(fleet[7] or whole(now))

-- A primary that is new, or was restarted, may lack writes; one that nobody could ask knows nobody's state. Whoever lives is heard
-- within the time after which it would be gone. Until then nobody gets more than it says it holds.
-- So does one whose clock has gone back: what was heard later than now was heard before that.
local away = redis.call('ZCARD', KEYS[1]) > 0 and (now - heard > tonumber(ARGV[10]) or heard > now)
-- Where nobody has ever reported and a node begins, the fleet begins; whoever turns up soon after and holds a share shows otherwise.
local wasThere = not known and held > 0 and now >= settled and now - settled < tonumber(ARGV[9])
if not fleet[1] and ARGV[5] == '' then
  settled = now
elseif fleet[1] ~= replid or away or wasThere then
  settled = now + ARGV[9]
  blind = 0
  version = version + 1
end

local forget = function(instances)
  for _, gone in ipairs(instances) do
    local theirs, _, itsWeight = string.match(redis.call('HGET', KEYS[3], gone) or '0 0 0', '^(%d+) (%d+) (%d+)')
    inForceSum = inForceSum - theirs
    weights = weights - itsWeight
    redis.call('ZREM', KEYS[1], gone)
    redis.call('HDEL', KEYS[2], gone)
    redis.call('HDEL', KEYS[3], gone)
    redis.call('SREM', KEYS[4], gone)
    version = version + 1
  end
end
if now >= settled then
  forget(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', whole(now - ARGV[9])))
  forget(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. whole(now), '+inf'))
end

-- Forgotten just now, perhaps.
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
    -- Half of what is kept for those who join is left to the next.
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

local reply = { whole(share), redis.call('SISMEMBER', KEYS[4], instance), whole(now), whole(version) }
if ARGV[11] ~= whole(version) or now - ARGV[12] >= redis.call('ZCARD', KEYS[1]) * ARGV[13] then
  reply[5] = redis.call('HGETALL', KEYS[2])
  reply[6] = redis.call('HGETALL', KEYS[3])
end
return reply
