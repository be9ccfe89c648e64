#!lua flags=allow-oom
-- Ends leases whose items were delivered: they leave their queue, which is ready again where it holds more.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  for each lease: prefix of the slot's keys, lease (see claim.lua), number of items done, sequence of the last of them
-- Returns for each lease 1, or 0 where it had ended before.
-- include ready.part.lua
-- include leave.part.lua

local replies = {}
for at = 1, #ARGV, 4 do
  local prefix, lease = ARGV[at], ARGV[at + 1]
  local held = redis.call('ZREM', prefix .. 'leases', lease)
  if held == 1 then
    local queue = string.match(lease, '^%d+ %S+ %d+ %d+ %d+ (.*)$')
    local _, class = leave(prefix, queue, tonumber(ARGV[at + 2]))
    if class then
      makeReady(prefix, class, 'f', '0 ' .. ARGV[at + 3] .. ' ' .. queue, false)
    end
  end
  replies[#replies + 1] = held
end
tellReady()
return replies
