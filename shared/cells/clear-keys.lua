#!lua flags=allow-oom
-- Deletes keys of a slot that this cell does not own, or not yet.
-- KEYS  1 how the slot arrived (hash: state, 'move attempt state'; server)   2 a name in its slot that no key has
-- ARGV  1 move   then the names of the keys
-- Returns 1, or 0 where the slot has arrived here, by this move or a later one; nothing was deleted then.

local last = redis.call('HGET', KEYS[1], 'state')
if last then
  local move, state = string.match(last, '^(%d+) %S+ (%S+)$')
  if tonumber(move) > tonumber(ARGV[1]) or move == ARGV[1] and state == 'sealed' then
    return 0
  end
end
for at = 2, #ARGV do
  redis.call('UNLINK', ARGV[at])
end
return 1
