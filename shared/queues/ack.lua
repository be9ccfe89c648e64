#!lua flags=allow-oom
-- Ends leases whose items were delivered: they leave their queue, which is ready again where it holds more.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  for each slot: prefix of its keys, number of leases, and for each of them: lease (see claim.lua), number of items done,
--       sequence of the last of them
-- Returns for each lease 1, or 0 where it had ended before.
-- include ready.part.lua
-- include leave.part.lua

-- Returns for each lease whether it was held. A lease that is given twice is held once.
local function endLeases(key, leases)
  if #leases == 1 then
    return { redis.call('ZREM', key, leases[1]) == 1 }
  end
  local ended, held = {}, {}
  for index, score in ipairs(redis.call('ZMSCORE', key, unpack(leases))) do
    local lease = leases[index]
    ended[index] = score and not held[lease]
    if ended[index] then
      held[lease] = true
      held[#held + 1] = lease
    end
  end
  if #held > 0 then
    redis.call('ZREM', key, unpack(held))
  end
  return ended
end

local replies = {}
local at = 1
while at < #ARGV do
  local prefix, count = ARGV[at], tonumber(ARGV[at + 1])
  local leases = {}
  for index = 1, count do
    leases[index] = ARGV[at + index * 3 - 1]
  end
  for index, wasHeld in ipairs(endLeases(prefix .. 'leases', leases)) do
    if wasHeld then
      local queue = string.match(leases[index], '^%d+ %S+ %d+ %d+ %d+ (.*)$')
      local _, class = leave(prefix, queue, ARGV[at + index * 3])
      if class then
        makeReady(prefix, class, 'f', '0 ' .. ARGV[at + index * 3 + 1] .. ' ' .. queue, false)
      end
    end
    replies[#replies + 1] = wasHeld and 1 or 0
  end
  uncount(prefix)
  pushReady(prefix)
  at = at + 2 + count * 3
end
tellReady()
return replies
