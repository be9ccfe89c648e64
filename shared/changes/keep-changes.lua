#!lua
-- Keeps what follows places of change logs, for a consumer that stores its cursor itself.
-- KEYS  1 and 2 see scriptKeys
-- ARGV  1 name   2 names of a slot at most   then for each slot: its log, time of the place in ms
-- Returns nothing.

for at = 3, #ARGV, 2 do
  local live = ARGV[at] .. ':live'
  if redis.call('ZCARD', live) < tonumber(ARGV[2]) then
    redis.call('ZADD', live, ARGV[at + 1], ARGV[1])
  else
    redis.call('ZADD', live, 'XX', ARGV[at + 1], ARGV[1])
  end
end
return {}
