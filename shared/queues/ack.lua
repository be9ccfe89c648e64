#!lua flags=allow-oom
-- Ends leases whose items were delivered: they leave their queue, which is ready again where it holds more.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  for each slot: prefix of its keys, number of leases, and for each of them: lease (see claim.lua), number of items done,
--       sequence of the last of them
-- Returns for each lease 1, or 0 where it had ended before.
-- include ready.part.lua
-- include leave.part.lua

local replies = {}
local at = 1
while at < #ARGV do
  local prefix, count = ARGV[at], tonumber(ARGV[at + 1])
  local leases, held = {}, {}
  for index = 1, count do
    leases[index] = ARGV[at + index * 3 - 1]
  end
  for index, score in ipairs(redis.call('ZMSCORE', prefix .. 'leases', unpack(leases))) do
    local lease = leases[index]
    local isHeld = score and not held[lease]
    if isHeld then
      held[lease] = true
      held[#held + 1] = lease
      local queue = string.match(lease, '^%d+ %S+ %d+ %d+ %d+ (.*)$')
      local _, class = leave(prefix, queue, ARGV[at + index * 3])
      if class then
        makeReady(prefix, class, 'f', '0 ' .. ARGV[at + index * 3 + 1] .. ' ' .. queue, false)
      end
    end
    replies[#replies + 1] = isHeld and 1 or 0
  end
  if #held > 0 then
    redis.call('ZREM', prefix .. 'leases', unpack(held))
    uncount(prefix)
    pushReady(prefix)
  end
  at = at + 2 + count * 3
end
tellReady()
return replies
