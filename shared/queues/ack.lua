#!lua flags=allow-oom
-- Ends leases whose items were delivered: they leave their queue, which is ready again where it holds more.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  leases, those of one slot after each other: slot, number of items done, and the lease, see claim.lua
-- Returns a text with a character for each lease: 1, or 0 where it had ended before.
-- include ready.part.lua
-- include slot.part.lua
-- include leave.part.lua

-- Removes the items that were done from their queue. Returns the queue, its service and tenant, the class of the next item if there is
-- one, and the sequence of the last item that left.
local function finish(prefix, lease, done)
  local class, items, sequence, source, following, queue, service, tenant =
    string.match(lease, '^%d+ (%S+) (%d+) (%d+) (%S*) (%S*) %d+ %d+ (([^:]*):([^:]*):.*)$')
  local nextClass
  if done == '1' then
    -- The text of the lease has all that is needed, so the item itself is not read: long texts slow a script down.
    local list = prefix .. 'q:' .. queue
    redis.call('LTRIM', list, '2', '-1')
    countGone(tenant, class, source)
    nextClass = items == '1' and following ~= '' and following or classOfNext(list)
  else
    nextClass, sequence = leave(prefix, queue, tenant, done)
  end
  return queue, service, tenant, nextClass, sequence
end

local replies = {}
local slot, prefix, leases
local function endSlot()
  if slot then
    uncount(prefix)
    pushReady(prefix)
  end
end

for at = 1, #ARGV do
  local own, done, lease = string.match(ARGV[at], '^(%d+) (%d+) (.*)$')
  if own ~= slot then
    endSlot()
    slot, prefix = own, prefixOf(own)
    leases = prefix .. 'leases'
  end
  -- One by one: a ZREM of several does not tell which were held, and ZMSCORE, which does, takes longer.
  local held = redis.call('ZREM', leases, lease)
  if held == 1 then
    local queue, service, tenant, class, sequence = finish(prefix, lease, done)
    if class then
      makeReady(prefix, laneOf(class, service, 'f', tenant), '0 ' .. sequence .. ' ' .. queue, false)
    end
  end
  replies[#replies + 1] = held
end
endSlot()
tellReady()
return table.concat(replies)
