#!lua
-- Begins or continues the copy of a stream. Its last id is that of its last entry, as at the source.
-- KEYS  1 how the slot arrived (hash: state, 'move attempt state'; version of the map; server)   2 a name in its slot that no key has
-- ARGV  1 move   2 attempt   3 stream   4 1 where the copy begins   5 id of the stream's first entry: earlier ones have left it
--       6 ms to live, 0 in its last one, negative where it does not expire   then for each entry to append: id, number of its fields and values, these
-- Returns 1, or 0 where the slot is not open for this attempt; nothing was changed then.

if redis.call('HGET', KEYS[1], 'state') ~= ARGV[1] .. ' ' .. ARGV[2] .. ' open' then
  return 0
end
if ARGV[4] == '1' then
  redis.call('UNLINK', ARGV[3])
end
local at = 7
while at < #ARGV do
  local last = at + 1 + tonumber(ARGV[at + 1])
  redis.call('XADD', ARGV[3], ARGV[at], unpack(ARGV, at + 2, last))
  at = last + 1
end
redis.call('XTRIM', ARGV[3], 'MINID', ARGV[5])
if tonumber(ARGV[6]) >= 0 then
  redis.call('PEXPIRE', ARGV[3], math.max(1, tonumber(ARGV[6])))
end
return 1
