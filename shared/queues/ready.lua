#!lua flags=no-writes
-- Lists lanes with ready queues.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 lanes of each slot at most   then the prefixes of the slots' keys
-- Returns for each slot its lanes (class:service:kind:tenant).

local replies = {}
for at = 2, #ARGV do
  replies[#replies + 1] = redis.call('SRANDMEMBER', ARGV[at] .. 'lanes', ARGV[1])
end
return replies
