#!lua flags=allow-oom
-- Deletes keys of slots that this cell does not own, or not yet.
-- KEYS  1 arrivals (hash: slot → 'move attempt state')
-- ARGV  1 move   then for each key: slot, name
-- Returns 1, or 0 where a slot has arrived here, by this move or a later one; nothing was deleted then.

for at = 2, #ARGV, 2 do
  local last = redis.call('HGET', KEYS[1], ARGV[at])
  if last then
    local move, state = string.match(last, '^(%d+) %S+ (%S+)$')
    if tonumber(move) > tonumber(ARGV[1]) or move == ARGV[1] and state == 'sealed' then
      return 0
    end
  end
end
for at = 2, #ARGV, 2 do
  redis.call('UNLINK', ARGV[at + 1])
end
return 1
