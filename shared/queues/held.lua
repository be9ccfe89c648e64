#!lua flags=no-writes
-- Finds slots with queues that are parked or wait for their next attempt.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  the prefixes of the slots' keys
-- Returns which of them, from 0.

local slots = {}
for at = 1, #ARGV do
  if redis.call('EXISTS', ARGV[at] .. 'parked', ARGV[at] .. 'delays') > 0 then
    slots[#slots + 1] = at - 1
  end
end
return slots
