#!lua flags=allow-oom
-- Removes session events that are stored elsewhere. Where an event is gone, another caller has settled it, and the profile may be that of a later claim.
-- KEYS  1 a name in the slot of the first event
-- ARGV  for each event: prefix of its slot's keys, 'c' or 'd', 'session user', 1 where the profile is not needed any more
-- Returns 1.

for at = 1, #ARGV, 4 do
  local prefix, field = ARGV[at], ARGV[at + 2]
  local removed = redis.call('ZREM', prefix .. 'session-events', ARGV[at + 1] .. ' ' .. field)
  if removed == 1 and ARGV[at + 3] == '1' then
    redis.call('HDEL', prefix .. 'session-profiles', field)
  end
end
return 1
