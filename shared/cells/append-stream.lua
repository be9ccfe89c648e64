#!lua
-- Begins or continues the copy of a stream. Its last id is that of its last entry, as at the source.
-- KEYS  1 arrivals (hash: slot → 'move attempt state')
-- ARGV  1 move   2 attempt   3 slot   4 stream   5 1 where the copy begins   6 id of the stream's first entry: earlier ones have left it
--       7 ms to live, or less than 1   then for each entry to append: id, number of its fields and values, these
-- Returns 1, or 0 where the slot is not open for this attempt; nothing was changed then.

if redis.call('HGET', KEYS[1], ARGV[3]) ~= ARGV[1] .. ' ' .. ARGV[2] .. ' open' then
  return 0
end
if ARGV[5] == '1' then
  redis.call('UNLINK', ARGV[4])
end
local at = 8
while at < #ARGV do
  local last = at + 1 + tonumber(ARGV[at + 1])
  redis.call('XADD', ARGV[4], ARGV[at], unpack(ARGV, at + 2, last))
  at = last + 1
end
redis.call('XTRIM', ARGV[4], 'MINID', ARGV[6])
if tonumber(ARGV[7]) > 0 then
  redis.call('PEXPIRE', ARGV[4], ARGV[7])
end
return 1
