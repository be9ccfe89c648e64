#!lua flags=allow-oom
-- Opens slots for an attempt to copy them to this cell. What earlier attempts still send is refused from now on.
-- KEYS  1 arrivals (hash: slot → 'move attempt state')
-- ARGV  1 move   2 attempt   then the slots
-- Returns 1, or 0 where a later move has brought one of them here.

for at = 3, #ARGV do
  local last = redis.call('HGET', KEYS[1], ARGV[at])
  if last and tonumber(string.match(last, '^%d+')) > tonumber(ARGV[1]) then
    return 0
  end
end
for at = 3, #ARGV do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[1] .. ' ' .. ARGV[2] .. ' open')
end
return 1
