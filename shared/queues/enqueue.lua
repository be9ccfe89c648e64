#!lua
-- Stores items, each at the tail of its queue; a queue that was empty becomes ready.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 deduplication ms   2 version of the caller's map of cells; 0: there is one cell   3 number of items, then for each slot:
--       prefix of its keys, number of items, and for each item: queue (service:tenant:key), class and source ('class' or
--       'class source'), id for deduplication or '', what follows the sequence in the item: class and source, head, data, a line each,
--       and its place: '' where the tenant has one slot for the queue; 'earlier VERSION' where the item is stored only if the queue is
--       here, because new queues are in another slot since that version of the map; 'newest NUMBER' where it was not in the earlier
--       slots, whose last number that was
-- Returns for each item its sequence as text, '' for a duplicate, or '-NUMBER' where its queue is not here: the last number given here.
-- include numbers.part.lua
-- include ready.part.lua

local function tenantOf(queue)
  return string.match(queue, '^[^:]*:([^:]*):')
end

local number = takeNumbers(ARGV[3])
if ARGV[2] ~= '0' then
  -- The hash 'left' of a slot has tenants whose new queues are in another slot since that version of the map. A caller with an older map
  -- would begin a queue here that others have begun there. All is checked before anything is stored: a refused call is repeated whole.
  local past, at = number, 4
  while at < #ARGV do
    local prefix, last = ARGV[at], at + 1 + 5 * ARGV[at + 1]
    local left = redis.call('EXISTS', prefix .. 'left') == 1
    for item = at + 2, last, 5 do
      local least = left and redis.call('HGET', prefix .. 'left', tenantOf(ARGV[item]))
      if least and tonumber(ARGV[2]) < tonumber(least) then
        return redis.error_reply('OUTDATED ' .. least)
      end
      past = math.max(past, ARGV[item + 4] ~= '' and tonumber(string.match(ARGV[item + 4], '^newest (%d+)$')) or 0)
    end
    at = last + 1
  end
  if past > number then
    number = past
    redis.call('SET', KEYS[1] .. ':' .. replid, string.format('%.0f', past + ARGV[3]))
  end
end

local replies = {}
local at = 4
while at < #ARGV do
  local prefix, count = ARGV[at], tonumber(ARGV[at + 1])
  local added, ofSources = {}, {}
  at = at + 2
  for _ = 1, count do
    local queue, origin, id = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local newerSince = ARGV[at + 4] ~= '' and string.match(ARGV[at + 4], '^earlier (%d+)$')
    if newerSince and redis.call('EXISTS', prefix .. 'q:' .. queue) == 0 then
      if id ~= '' and redis.call('EXISTS', prefix .. 'id:' .. id) == 1 then
        replies[#replies + 1] = ''
      else
        local known = redis.call('HGET', prefix .. 'left', tenantOf(queue))
        if not known or tonumber(known) < tonumber(newerSince) then
          redis.call('HSET', prefix .. 'left', tenantOf(queue), newerSince)
        end
        replies[#replies + 1] = '-' .. string.format('%.0f', number)
      end
    elseif id ~= '' and not redis.call('SET', prefix .. 'id:' .. id, '1', 'PX', ARGV[1], 'NX') then
      replies[#replies + 1] = ''
    else
      number = number + 1
      local sequence = string.format('%.0f', number)
      local length = redis.call('RPUSH', prefix .. 'q:' .. queue, sequence .. ' ' .. ARGV[at + 3])
      local class, source = string.match(origin, '^(%S+) ?(%S*)')
      local depth = class .. ':' .. tenantOf(queue)
      added[depth] = (added[depth] or 0) + 1
      if source ~= '' then
        ofSources[source] = (ofSources[source] or 0) + 1
      end
      if length == 1 then
        makeReady(prefix, class, 'f', '0 0 ' .. queue, false)
      end
      replies[#replies + 1] = sequence
    end
    at = at + 5
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
