#!lua
-- Stores items, each at the tail of its queue; a queue that was empty becomes ready.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 deduplication ms   2 number of items, then for each slot: prefix of its keys, number of items, and for each item:
--       queue (service:tenant:key), class and source ('class' or 'class source'), id for deduplication or '', and what follows the
--       sequence in the item: class and source, head, data, a line each
-- Returns for each item its sequence as text, or '' for a duplicate.
-- include numbers.part.lua
-- include ready.part.lua

local replies = {}
local number = takeNumbers(ARGV[2])
local at = 3
while at < #ARGV do
  local prefix, count = ARGV[at], tonumber(ARGV[at + 1])
  local added, ofSources = {}, {}
  at = at + 2
  for _ = 1, count do
    local queue, origin, id = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    if id ~= '' and not redis.call('SET', prefix .. 'id:' .. id, '1', 'PX', ARGV[1], 'NX') then
      replies[#replies + 1] = ''
    else
      number = number + 1
      local sequence = string.format('%.0f', number)
      local length = redis.call('RPUSH', prefix .. 'q:' .. queue, sequence .. ' ' .. ARGV[at + 3])
      local class, source = string.match(origin, '^(%S+) ?(%S*)')
      local depth = class .. ':' .. string.match(queue, '^[^:]*:([^:]*):')
      added[depth] = (added[depth] or 0) + 1
      if source ~= '' then
        ofSources[source] = (ofSources[source] or 0) + 1
      end
      if length == 1 then
        makeReady(prefix, class, 'f', '0 0 ' .. queue, false)
      end
      replies[#replies + 1] = sequence
    end
    at = at + 4
  end
  pushReady(prefix)
  for depth, items in pairs(added) do
    redis.call('HINCRBY', prefix .. 'depths', depth, items)
  end
  for source, items in pairs(ofSources) do
    redis.call('HINCRBY', prefix .. 'sources', source, items)
  end
end
tellReady()
return replies
