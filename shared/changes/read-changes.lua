#!lua flags=no-writes
-- Reads the change logs of slots, in the given order, until a bound ends it.
-- KEYS  1 and 2 see scriptKeys
-- ARGV  1 changes at most   2 bytes of data at most   3 number of exact channels, the channels, number of prefixes, the prefixes,
--       then for each slot: its log, and 'start', 'end', the time in ms, or the place (time-number) to read after
-- Returns for each slot that was looked at
-- {gap: from in ms or '', gap: to, place to read after next, newest place, id, head, data, id, head, data, …}.
-- include places.part.lua

-- Of all slots, whether or not they are asked for.
local maxLookedAt, maxLookedAtBytes = 2000, 1048576
local limit, maxBytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local names, prefixes, lengths = {}, {}, {}
local at = 3
for _ = 1, tonumber(ARGV[at]) do
  at = at + 1
  names[ARGV[at]] = true
end
at = at + 1
local prefixCount = tonumber(ARGV[at])
local hasLength = {}
for index = 1, prefixCount do
  local prefix = ARGV[at + index]
  prefixes[prefix] = true
  if not hasLength[#prefix] then
    hasLength[#prefix] = true
    lengths[#lengths + 1] = #prefix
  end
end
at = at + prefixCount + 1
local isFiltered = next(names) ~= nil or prefixCount > 0

local function isAskedFor(head)
  if not isFiltered then
    return true
  end
  local channel = string.match(head, '[^ ]*$')
  if names[channel] then
    return true
  end
  for _, length in ipairs(lengths) do
    if prefixes[string.sub(channel, 1, length)] then
      return true
    end
  end
  return false
end

local function timeOf(place)
  return tonumber(string.match(place, '^%d+'))
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local count, bytes, lookedAt, lookedAtBytes = 0, 0, 0, 0

-- Returns the first entry to read ('-': the oldest; nil: none), the place before it, and the gap before it.
local function begin(log, state, from)
  local newest, trimmed = state[1] or '0-0', state[2] or '0-0'
  if from == 'end' or from == newest then
    return nil, newest
  end
  if newest ~= '0-0' and redis.call('EXISTS', log) == 0 then
    trimmed = newest
  end
  if from == 'start' then
    return '-', trimmed
  end
  if not string.find(from, '-', 1, true) then
    if tonumber(from) <= timeOf(trimmed) then
      return '-', trimmed, tonumber(from), timeOf(trimmed)
    end
    return from .. '-0', trimmed
  end
  if newest == '0-0' then
    return nil, newest, timeOf(from), now
  end
  if isBefore(from, trimmed) then
    return '-', trimmed, from == '0-0' and timeOf(trimmed) or timeOf(from), timeOf(trimmed)
  end
  if from == trimmed or #redis.call('XRANGE', log, from, from) == 1 then
    return '(' .. from, from
  end
  -- The reader has seen a change that this Redis does not have.
  if state[4] ~= replid then
    return nil, newest, timeOf(newest), now
  end
  local resumed = state[3]
  if isBefore(from, resumed) then
    resumed = from
  end
  return '(' .. resumed, resumed, math.min(timeOf(resumed) > 0 and timeOf(resumed) or timeOf(from), now), now
end

-- Whether a bound keeps the read from looking at one more entry.
local function isPast(isAsked, size)
  return lookedAt >= maxLookedAt or lookedAtBytes >= maxLookedAtBytes or (isAsked and (count >= limit or (count > 0 and bytes + size > maxBytes)))
end

local replies = {}
local isFull = false
while at < #ARGV and not isFull do
  local log, asked = ARGV[at], ARGV[at + 1]
  local state = redis.call('HMGET', log .. ':state', 'newest', 'trimmed', 'resumed', 'replid')
  local newest = state[1] or '0-0'
  local from, place, gapFrom, gapTo = begin(log, state, asked)
  local reply = { gapFrom and string.format('%.0f', gapFrom) or '', gapTo and string.format('%.0f', gapTo) or '', place, newest }
  local chunk = 16
  local isLookedAt = from == nil
  while from do
    local entries = redis.call('XRANGE', log, from, '+', 'COUNT', chunk)
    from = nil
    if #entries == 0 then
      isLookedAt, place = true, newest
    end
    for index, entry in ipairs(entries) do
      local head, data = entry[2][2], entry[2][4]
      local isAsked = isAskedFor(head)
      if isPast(isAsked, #data) then
        isFull, from = true, nil
        break
      end
      isLookedAt, place = true, entry[1]
      lookedAt, lookedAtBytes = lookedAt + 1, lookedAtBytes + #data
      if isAsked then
        count, bytes = count + 1, bytes + #data
        local last = #reply
        reply[last + 1], reply[last + 2], reply[last + 3] = place, head, data
      end
      if index == chunk then
        from = '(' .. place
      end
    end
    chunk = 64
  end
  reply[3] = place
  if isLookedAt then
    replies[#replies + 1] = reply
  end
  at = at + 2
end
return replies
