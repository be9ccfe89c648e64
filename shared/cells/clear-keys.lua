#!lua flags=allow-oom
-- Deletes keys of a slot that this cell does not own, or not yet.
-- KEYS  1 how the slot arrived (hash: state, 'move attempt state'; version of the map; server)   2 a name in its slot that no key has
-- ARGV  1 move   2 attempt to copy the slot here; '' where the slot has left, or its move is aborted   then the names of the keys
-- Returns 1, or 0 where the slot is not open for this attempt, or an attempt that was not aborted or a later move has brought it here;
-- nothing was deleted then.

local last = redis.call('HGET', KEYS[1], 'state')
if ARGV[2] ~= '' then
  if last ~= ARGV[1] .. ' ' .. ARGV[2] .. ' open' then
    return 0
  end
elseif last then
  local move, state = string.match(last, '^(%d+) %S+ (%S+)$')
  if tonumber(move) > tonumber(ARGV[1]) or move == ARGV[1] and state ~= 'ended' then
    return 0
  end
end
for at = 3, #ARGV do
  redis.call('UNLINK', ARGV[at])
end
return 1
