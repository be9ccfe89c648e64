#!lua flags=allow-oom
-- Leases ready queues, each with its first items, which stay in the queue until they are settled.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 lease ms   2 queues of all groups at most, then for each group: prefix of the slot's keys, lane (class:service:kind:tenant),
--       queues at most, index of the last item of each at most
-- Returns for each group {1 where more queues are ready, then for each queue {lease, items...}}.
-- A lease: fence, class, number of items, attempts at the first one that failed, sequence of the item before it or 0, service:tenant:key
-- include numbers.part.lua

-- Values of one ZADD: an even number.
local maxReplyBytes, maxAdded = 4194304, 1000
local time = redis.call('TIME')
local expiresAt = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1]))

local replies = {}
local bytes = 0
local fence = nil
for at = 3, #ARGV, 4 do
  local prefix, lane, most = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local list = prefix .. 'r:' .. lane
  local class = string.match(lane, '^[^:]*')
  local entries = bytes < maxReplyBytes and redis.call('LPOP', list, most) or {}
  local reply, leases = { 1 }, {}
  if bytes < maxReplyBytes and #entries < tonumber(most) then
    redis.call('SREM', prefix .. 'lanes', lane)
    reply[1] = 0
  end
  for index, entry in ipairs(entries) do
    if bytes >= maxReplyBytes then
      -- Too much for one reply: what is left keeps its order.
      for back = #entries, index, -1 do
        redis.call('LPUSH', list, entries[back])
      end
      redis.call('SADD', prefix .. 'lanes', lane)
      reply[1] = 1
      break
    end
    local items = redis.call('LRANGE', prefix .. 'q:' .. string.match(entry, '^%d+ %d+ (.*)$'), '0', ARGV[at + 3])
    if #items > 0 then
      fence = (fence or takeNumbers(ARGV[2])) + 1
      local lease = string.format('%.0f', fence) .. ' ' .. class .. ' ' .. #items .. ' ' .. entry
      leases[#leases + 1] = expiresAt
      leases[#leases + 1] = lease
      local claimed = { lease }
      for _, item in ipairs(items) do
        claimed[#claimed + 1] = item
        bytes = bytes + #item
      end
      reply[#reply + 1] = claimed
    end
  end
  for from = 1, #leases, maxAdded do
    redis.call('ZADD', prefix .. 'leases', unpack(leases, from, math.min(#leases, from + maxAdded - 1)))
  end
  replies[#replies + 1] = reply
end
return replies
