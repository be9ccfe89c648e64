#!lua
-- Claims ids that count in all queues, each for the first queue that asks for it.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 deduplication ms, then ids, those of one slot after each other. Each has three lines: slot and the queue that wants the id; the queue that
--       had claimed it and has not stored it, or ''; and the id
-- Returns a text with a line for each id: '' where the queue has it from now on, the queue that claimed it before, or 'stored' where a
-- Redis that was the only one has stored it.
-- include slot.part.lua

local replies = {}
for at = 2, #ARGV do
  local slot, queue, abandoned, id = string.match(ARGV[at], '^(%d+) ([^\n]*)\n([^\n]*)\n(.*)$')
  local prefix = prefixOf(slot)
  local key = prefix .. 'claim:' .. id
  local claimed = redis.call('GET', key)
  if redis.call('EXISTS', prefix .. 'id:' .. id) == 1 then
    replies[#replies + 1] = 'stored'
  elseif claimed and claimed ~= queue and claimed ~= abandoned then
    replies[#replies + 1] = claimed
  else
    redis.call('SET', key, queue, 'PX', ARGV[1])
    replies[#replies + 1] = ''
  end
end
return table.concat(replies, '\n')
