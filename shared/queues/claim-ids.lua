#!lua
-- Claims ids that count in all queues, each for the first queue that asks for it.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 deduplication ms, then for each slot: prefix of its keys, number of ids, and for each id: the id, the queue that wants it, and the
--       queue that had claimed it and has not stored it, or ''
-- Returns a text with a line for each id: '' where the queue has it from now on, the queue that claimed it before, or 'stored' where a
-- Redis that was the only one has stored it.

local replies = {}
local at = 2
while at < #ARGV do
  local prefix, last = ARGV[at], at + 1 + 3 * ARGV[at + 1]
  for id = at + 2, last, 3 do
    local key, queue = prefix .. 'claim:' .. ARGV[id], ARGV[id + 1]
    local claimed = redis.call('GET', key)
    if redis.call('EXISTS', prefix .. 'id:' .. ARGV[id]) == 1 then
      replies[#replies + 1] = 'stored'
    elseif claimed and claimed ~= queue and claimed ~= ARGV[id + 2] then
      replies[#replies + 1] = claimed
    else
      redis.call('SET', key, queue, 'PX', ARGV[1])
      replies[#replies + 1] = ''
    end
  end
  at = last + 1
end
return table.concat(replies, '\n')
