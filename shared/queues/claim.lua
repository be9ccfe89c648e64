#!lua flags=allow-oom
-- Leases ready queues, each with its first items, which stay in the queue until they are settled.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 lease ms   2 queues of all groups at most, then for each group: prefix of the slot's keys, lane (class:service:kind:tenant),
--       queues at most, twice the number of items of each at most
-- Returns one text, and then the contents of all items, each once. The first line of the text has two numbers for each group: 1 where more
-- queues are ready, and how many were leased; and then, where any was, the time in ms; and then, where items share contents, for each item
-- the index of its content, from 1 on. A line follows for each lease, and for each of its items but the first one a line with its label.
-- A lease: fence, class, number of items, sequence and source of the first one, class of the item after the last one where there is one,
-- attempts at the first one that failed, sequence of the item before it or 0, service:tenant:key
-- include numbers.part.lua

-- Bytes of all items, and of those of one queue (see contract.ts); values of one ZADD: an even number.
local maxReplyBytes, maxClaimedBytes, maxAdded = 4194304, 1048576, 1000
-- Elements of one read of a queue, two for each item. The first read is small, as one item may have many bytes; each further read doubles.
local fewestAtOnce, mostAtOnce = 2, 16

-- Returns the first items of a queue, two elements for each, and then the label of the next item where that is known.
local function firstOf(list, last)
  local atOnce = fewestAtOnce
  local elements = redis.call('LRANGE', list, '0', math.min(last, atOnce))
  local bytes, at = 0, 2
  while elements[at] do
    bytes = bytes + #elements[at]
    if bytes >= maxClaimedBytes then
      return { unpack(elements, 1, at + 1) }
    end
    at = at + 2
    -- Each read ends with the label of an item, or with the queue.
    if at == #elements + 1 and #elements <= last then
      atOnce = math.min(2 * atOnce, mostAtOnce)
      for _, element in ipairs(redis.call('LRANGE', list, #elements, math.min(last, #elements + atOnce - 1))) do
        elements[#elements + 1] = element
      end
    end
  end
  return elements
end

local counts, lines, replies = {}, { '' }, { '' }
local known, indexes = {}, {}
local bytes = 0
local fence, now, expiresAt
for at = 3, #ARGV, 4 do
  local prefix, lane, most, last = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local list, queues = prefix .. 'r:' .. lane, prefix .. 'q:'
  local class = string.match(lane, '^[^:]*')
  local entries, more, leases = {}, '1', {}
  if bytes < maxReplyBytes then
    -- One more than asked for: this shows without a further command whether more queues are ready.
    entries = redis.call('LPOP', list, most + 1) or {}
    if #entries > tonumber(most) then
      redis.call('LPUSH', list, table.remove(entries))
    else
      redis.call('SREM', prefix .. 'lanes', lane)
      more = '0'
    end
  end
  for index, entry in ipairs(entries) do
    if bytes >= maxReplyBytes then
      -- Too much for one reply: what is left keeps its order.
      for back = #entries, index, -1 do
        redis.call('LPUSH', list, entries[back])
      end
      redis.call('SADD', prefix .. 'lanes', lane)
      more = '1'
      break
    end
    local elements = firstOf(queues .. string.match(entry, '^%d+ %d+ (.*)$'), last)
    if #elements > 0 then
      if not fence then
        local time = redis.call('TIME')
        now = time[1] * 1000 + math.floor(time[2] / 1000)
        expiresAt = string.format('%d', now + ARGV[1])
        fence = takeNumbers(ARGV[2])
      end
      fence = fence + 1
      local items = math.floor(#elements / 2)
      local sequence, source = string.match(elements[1], '^(%d+) %S+ ?(%S*)$')
      local following = #elements % 2 == 1 and string.match(elements[#elements], '^%d+ (%S+)') or ''
      local lease = string.format('%d', fence) .. ' ' .. class .. ' ' .. items .. ' ' .. sequence .. ' ' .. source .. ' ' .. following
        .. ' ' .. entry
      leases[#leases + 1] = expiresAt
      leases[#leases + 1] = lease
      lines[#lines + 1] = lease
      for item = 1, items do
        if item > 1 then
          lines[#lines + 1] = elements[2 * item - 1]
        end
        local content = elements[2 * item]
        bytes = bytes + #content
        if not known[content] then
          known[content] = #replies
          replies[#replies + 1] = content
        end
        indexes[#indexes + 1] = known[content]
      end
    end
  end
  for from = 1, #leases, maxAdded do
    redis.call('ZADD', prefix .. 'leases', unpack(leases, from, math.min(#leases, from + maxAdded - 1)))
  end
  counts[#counts + 1] = more
  counts[#counts + 1] = #leases / 2
end
if fence then
  counts[#counts + 1] = string.format('%d', now)
  if #replies - 1 < #indexes then
    counts[#counts + 1] = table.concat(indexes, ' ')
  end
end
lines[1] = table.concat(counts, ' ')
replies[1] = table.concat(lines, '\n')
return replies
