#!lua flags=allow-oom
-- Leases ready queues, each with its first items, which stay in the queue until they are settled.
-- KEYS  1 a name in the slot of the first group
-- ARGV  1 lease ms, then for each group: prefix of the slot's keys, lane (class:service:kind:tenant), queues at most, items of each at most
-- Returns for each group {1 where more queues are ready, then for each queue {queue, fence, attempts, previous or '', items...}}.
-- include numbers.part.lua

local maxReplyBytes = 4194304
local time = redis.call('TIME')
local expiresAt = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1]))

local replies = {}
local bytes = 0
for at = 2, #ARGV, 4 do
  local prefix, lane, most = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local list = prefix .. 'r:' .. lane
  local class = string.match(lane, '^[^:]*')
  local queues = bytes < maxReplyBytes and redis.call('LPOP', list, most) or {}
  local reply = { 1 }
  if bytes < maxReplyBytes and #queues < most then
    redis.call('SREM', prefix .. 'lanes', lane)
    reply[1] = 0
  end
  local fence = #queues > 0 and takeNumbers(prefix, #queues) or 0
  for index, queue in ipairs(queues) do
    if bytes >= maxReplyBytes then
      -- Too much for one reply: what is left keeps its order.
      for back = #queues, index, -1 do
        redis.call('LPUSH', list, queues[back])
      end
      redis.call('SADD', prefix .. 'lanes', lane)
      reply[1] = 1
      break
    end
    local items = redis.call('LRANGE', prefix .. 'q:' .. queue, 0, ARGV[at + 3] - 1)
    if #items > 0 then
      fence = fence + 1
      local token = string.format('%.0f', fence)
      local state = redis.call('HMGET', prefix .. 'k:' .. queue, 'attempts', 'previous')
      redis.call('ZADD', prefix .. 'leases', expiresAt, token .. ' ' .. class .. ' ' .. #items .. ' ' .. queue)
      local claimed = { queue, token, state[1] or '0', state[2] or '' }
      for _, item in ipairs(items) do
        claimed[#claimed + 1] = item
        bytes = bytes + #item
      end
      reply[#reply + 1] = claimed
    end
  end
  replies[#replies + 1] = reply
end
return replies
