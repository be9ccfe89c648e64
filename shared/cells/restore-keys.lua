#!lua
-- Stores copies of keys, over what is there.
-- KEYS  1 how the slot arrived (hash: state, 'move attempt state'; version of the map; server)   2 a name in its slot that no key has
-- ARGV  1 move   2 attempt   then for each key: name, ms to live or 0, value as DUMP gives it or '' where the key is gone
-- Returns 1, or 0 where the slot is not open for this attempt; nothing was changed then.

if redis.call('HGET', KEYS[1], 'state') ~= ARGV[1] .. ' ' .. ARGV[2] .. ' open' then
  return 0
end
for at = 3, #ARGV, 3 do
  if ARGV[at + 2] == '' then
    redis.call('UNLINK', ARGV[at])
  else
    redis.call('RESTORE', ARGV[at], ARGV[at + 1], ARGV[at + 2], 'REPLACE')
  end
end
return 1
