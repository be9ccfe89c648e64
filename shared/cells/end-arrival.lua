#!lua flags=allow-oom
-- Ends a move that is aborted: nothing more is restored.
-- KEYS  1 arrivals (hash: slot → 'move attempt state')
-- ARGV  1 move   then the slots
-- Returns 1.

for at = 2, #ARGV do
  local last = redis.call('HGET', KEYS[1], ARGV[at])
  if last and string.match(last, '^%d+') == ARGV[1] then
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[1] .. ' - aborted')
  end
end
return 1
