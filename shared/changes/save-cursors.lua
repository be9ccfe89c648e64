#!lua
-- Sets or removes cursors of change logs.
-- KEYS  1 and 2 see scriptKeys
-- ARGV  1 cursors of a slot at most   then for each: log of the slot, name, place or '' to remove it, fencing token or ''
-- Returns for each 1, or 0 where the lease had ended or the slot has too many cursors.
-- include lease.part.lua

local replies = {}
for at = 2, #ARGV, 4 do
  local log, name, place, fence = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local cursors, live = log .. ':cursors', log .. ':live'
  local isDone = fence == '' or isLeaseHeld(log, fence)
  if isDone and place == '' then
    redis.call('HDEL', cursors, name)
    redis.call('ZREM', live, name)
  elseif isDone then
    isDone = redis.call('HLEN', cursors) < tonumber(ARGV[1]) or redis.call('HEXISTS', cursors, name) == 1
    if isDone then
      redis.call('HSET', cursors, name, place)
      redis.call('ZADD', live, string.match(place, '^%d+'), name)
    end
  end
  replies[#replies + 1] = isDone and 1 or 0
end
return replies
