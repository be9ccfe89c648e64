#!lua
-- Stores copies of keys, over what is there.
-- KEYS  1 arrivals (hash: slot → 'move attempt state')
-- ARGV  1 move   2 attempt   then for each key: slot, name, ms to live or 0, value as DUMP gives it or '' where the key is gone
-- Returns 1, or 0 where the slots are not open for this attempt; nothing was changed then.

for at = 3, #ARGV, 4 do
  if redis.call('HGET', KEYS[1], ARGV[at]) ~= ARGV[1] .. ' ' .. ARGV[2] .. ' open' then
    return 0
  end
end
for at = 3, #ARGV, 4 do
  if ARGV[at + 3] == '' then
    redis.call('UNLINK', ARGV[at + 1])
  else
    redis.call('RESTORE', ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], 'REPLACE')
  end
end
return 1
