#!lua flags=no-writes
-- Reads the change logs of slots, in the given order, until a bound ends it.
-- KEYS  1 and 2 see scriptKeys
-- ARGV  1 changes at most   2 bytes of data at most   3 1: also rows that have left the log, else 0
--       4 number of exact channels, the channels, number of prefixes, the prefixes,
--       then for each slot: its log; 'start', 'end', the time in ms, or the place (time-number) to read after; fencing token or ''
-- Returns for each slot that was looked at {} where the lease has ended, or
-- {gap: from in ms or '', gap: to, place to read after next, newest place, '', then for each change its id, head, data, origin or ''}; in place of changes of the log
-- rows that have left it, see ../channels/note-rows.part.lua: {…, newest place, place after which the log has changes, then id, head, row, ''}.
-- include places.part.lua
-- include lease.part.lua

-- Of all slots, whether or not they are asked for.
local maxLookedAt, maxLookedAtBytes = 2000, 1048576
local limit, maxBytes, withRows = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local names, prefixes, lengths = {}, {}, {}
local at = 4
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

local count, bytes, lookedAt, lookedAtBytes = 0, 0, 0, 0

-- Whether any of the channels that are asked for may belong to one of these namespaces.
local function mayBeOf(namespaces)
  if not isFiltered or namespaces == '*' then
    return true
  end
  for namespace in string.gmatch(namespaces, '[^,]+') do
    for name in pairs(names) do
      if string.match(name, '^[^:]*') == namespace then
        return true
      end
    end
    for prefix in pairs(prefixes) do
      if string.match(prefix, '^([^:]*):') == namespace or string.sub(namespace, 1, #prefix) == prefix then
        return true
      end
    end
  end
  return false
end

local function hasNoted(rows, state)
  local hasRows = tonumber(state[7] or '0') > 0
  return (hasRows and redis.call('EXISTS', rows) == 1) or (not hasRows and (state[6] or '') ~= '')
end

-- Returns the stream to read, its first entry ('-': the oldest; nil: none), the place before it, and the gap before it.
local function begin(log, state, from)
  local newest, trimmed = state[1] or '0-0', state[2] or '0-0'
  if from == 'end' or from == newest then
    return log, nil, newest
  end
  local rows = log .. ':rows'
  local floor = trimmed
  if newest ~= '0-0' and redis.call('EXISTS', log) == 0 then
    trimmed, floor = newest, newest
  elseif withRows and hasNoted(rows, state) then
    floor = state[5]
  end
  local function fromOldest(since)
    if floor == trimmed then
      return log, '-', trimmed, since, timeOf(trimmed)
    end
    return rows, '(' .. floor, floor, since, timeOf(floor)
  end
  if from == 'start' then
    return log, '-', trimmed
  end
  if not string.find(from, '-', 1, true) then
    if tonumber(from) > timeOf(trimmed) then
      return log, from .. '-0', trimmed
    elseif tonumber(from) > timeOf(floor) then
      return rows, from .. '-0', floor
    end
    return fromOldest(tonumber(from))
  end
  if newest == '0-0' then
    return log, nil, newest, timeOf(from), now
  end
  if isBefore(from, floor) then
    return fromOldest(from == '0-0' and timeOf(floor) or timeOf(from))
  end
  if isBefore(from, trimmed) then
    return rows, '(' .. from, from
  end
  if from == trimmed or #redis.call('XRANGE', log, from, from) == 1 then
    return log, '(' .. from, from
  end
  -- The reader has seen a change that this Redis does not have.
  if state[4] ~= replid then
    return log, nil, newest, timeOf(newest), now
  end
  local resumed = state[3]
  if isBefore(from, resumed) then
    resumed = from
  end
  return log, '(' .. resumed, resumed, math.min(timeOf(resumed) > 0 and timeOf(resumed) or timeOf(from), now), now
end

-- Whether a bound keeps the read from looking at one more entry.
local function isPast(isAsked, size)
  return lookedAt >= maxLookedAt or lookedAtBytes >= maxLookedAtBytes or (isAsked and (count >= limit or (count > 0 and bytes + size > maxBytes)))
end

local replies = {}
local isFull = false
while at < #ARGV and not isFull do
  local log, asked, fence = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local hasEnded = fence ~= '' and not isLeaseHeld(log, fence)
  local state = redis.call('HMGET', log .. ':state', 'newest', 'trimmed', 'resumed', 'replid', 'floor', 'hole', 'rowBytes')
  local newest = state[1] or '0-0'
  local stream, from, place, gapFrom, gapTo = begin(log, state, hasEnded and 'end' or asked)
  local isOfRows = stream ~= log
  local askedTime = tonumber(string.match(asked, '^%d+'))
  local function addHole(id, since, namespaces)
    if mayBeOf(namespaces) then
      since = math.max(tonumber(since), askedTime)
      gapFrom, gapTo = math.min(gapFrom or since, since), math.max(gapTo or 0, timeOf(id))
    end
  end
  local reply = { '', '', '', newest, isOfRows and state[2] or '' }
  local chunk = 16
  local isLookedAt = from == nil
  while from do
    local entries = redis.call('XRANGE', stream, from, '+', 'COUNT', chunk)
    from = nil
    if #entries == 0 then
      isLookedAt, place = true, isOfRows and place or newest
    end
    for index, entry in ipairs(entries) do
      local fields = entry[2]
      local isHole = fields[1] == 'n'
      local head, data = fields[2], fields[4]
      local size = isOfRows and tonumber(string.match(data, '%d+$')) or #data
      local isAsked = not isHole and isAskedFor(head)
      if isPast(isAsked, size) then
        isFull, from = true, nil
        break
      end
      isLookedAt, place = true, entry[1]
      lookedAt, lookedAtBytes = lookedAt + 1, lookedAtBytes + (isOfRows and 0 or size)
      if isHole then
        addHole(place, data, head)
      elseif isAsked then
        count, bytes = count + 1, bytes + size
        local last = #reply
        reply[last + 1], reply[last + 2], reply[last + 3] = place, head, data
        reply[last + 4] = fields[5] == 'o' and fields[6] or ''
      end
      if index == chunk then
        from = '(' .. place
      end
    end
    chunk = 64
    if isOfRows and not from and not isFull then
      local id, since, namespaces = string.match(state[6] or '', '^(%S+) (%d+) (%S+)$')
      if id and isBefore(place, id) then
        addHole(id, since, namespaces)
      end
      place = state[2]
      if #reply == 5 then
        -- The reader asks for none of these rows: continue with the log.
        stream, isOfRows, from = log, false, '(' .. place
        reply[5] = ''
      end
    end
  end
  reply[1], reply[2], reply[3] = gapFrom and string.format('%.0f', gapFrom) or '', gapTo and string.format('%.0f', gapTo) or '', place
  if isLookedAt then
    replies[#replies + 1] = hasEnded and {} or reply
  end
  at = at + 3
end
return replies
