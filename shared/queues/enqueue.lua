#!lua
-- Stores items, each at the tail of its queue; a queue that was empty becomes ready.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 deduplication ms   2 version of the caller's map of cells; 0: there is one cell   3 number of items, then the items, those of one slot
--       after each other, and then their contents
--       An item: slot, the index of its content, from 1 on, and its kind: class:service:tenant, or 'class:service:tenant source'; in the second line
--       the key of its queue. Where the item has any of them, four lines follow: its place, slot and text of its id, the histories of which this Redis
--       must have one, see histories.lua, and the ms for which the item is leased to the caller where nothing else is in its queue.
--       A place: '' where the tenant has one slot for the queue; 'earlier VERSION' where the item is stored only if the queue is here,
--       because new queues are in another slot since that version of the map; 'newest NUMBER' where the earlier slots do not have the
--       queue, and have given numbers up to NUMBER
-- Returns a text with a word for each item, and spaces between them: its sequence, '' for a duplicate, '-NUMBER' where its queue is not
-- here: the last number given here, or '!' where this Redis has another history. Where the item was leased: its sequence, the fence, and
-- the time in ms, with colons between them; claim.lua says what the text of the lease is.
-- include numbers.part.lua
-- include ready.part.lua
-- include slot.part.lua

-- By text: many items of a call have the same.
local kinds = {}
local function kindOf(text)
  local kind = kinds[text]
  if not kind then
    local class, service, tenant, ofSource, source = string.match(text, '^([^:]*):([^:]*):([^ ]*)( ?(.*))$')
    kind = {
      class = class,
      depth = class .. ':' .. tenant,
      label = ' ' .. class .. ofSource,
      lane = laneOf(class, service, 'f', tenant),
      names = service .. ':' .. tenant .. ':',
      source = source,
      tenant = tenant,
    }
    kinds[text] = kind
  end
  return kind
end

-- Returns slot, index of the content, kind, key, and the lines that may follow, each '' where it is left out.
local function read(text)
  local slot, content, kind, key, more = string.match(text, '^(%d+) (%d+) ([^\n]*)\n([^\n]*)(.*)$')
  if more == '' then
    return slot, content, kindOf(kind), key, '', '', '', ''
  end
  return slot, content, kindOf(kind), key, string.match(more, '^\n([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
end

local now
local function timeNow()
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return now
end

local first, last = 4, 3 + ARGV[3]
-- Each item may take a sequence and a fence.
local numbers = 2 * ARGV[3]
local number, counter = takeNumbers(numbers)
if ARGV[2] ~= '0' then
  -- The hash 'left' of a slot has tenants whose new queues are in another slot, and the version of the map since when. A caller with an older
  -- map would begin a queue here that other callers have begun there. Everything is checked before anything is stored: the caller repeats a
  -- refused call as a whole.
  local past, known, left = number, nil, nil
  for at = first, last do
    local slot, _, kind, _, place = read(ARGV[at])
    local name = prefixOf(slot) .. 'left'
    if slot ~= known then
      known, left = slot, redis.call('EXISTS', name) == 1
    end
    local least = left and redis.call('HGET', name, kind.tenant)
    if least and tonumber(ARGV[2]) < tonumber(least) then
      return redis.error_reply('OUTDATED ' .. least)
    end
    past = math.max(past, place ~= '' and tonumber(string.match(place, '^newest (%d+)$')) or 0)
  end
  if past > number then
    number = past
    redis.call('SET', counter, string.format('%d', past + numbers))
  end
end

-- The history of this Redis, see histories.lua: the counter's name ends with it.
local history = string.sub(counter, #KEYS[1] + 2, #KEYS[1] + 9)
local replies = {}

-- Of one slot.
local slot, prefix
local added, ofSources, leases = {}, {}, {}
local function endSlot()
  if not slot then
    return
  end
  if #leases > 0 then
    redis.call('ZADD', prefix .. 'leases', unpack(leases))
  end
  pushReady(prefix)
  for depth, items in pairs(added) do
    redis.call('HINCRBY', prefix .. 'depths', depth, string.format('%d', items))
  end
  for source, items in pairs(ofSources) do
    redis.call('HINCRBY', prefix .. 'sources', source, string.format('%d', items))
  end
  added, ofSources, leases = {}, {}, {}
end

for at = first, last do
  local own, content, kind, key, place, id, histories, leaseMs = read(ARGV[at])
  if own ~= slot then
    endSlot()
    slot, prefix = own, prefixOf(own)
  end
  local queue = kind.names .. key
  local mapVersion = place ~= '' and string.match(place, '^earlier (%d+)$')
  local idName = ''
  if id ~= '' then
    local ofId, text = string.match(id, '^(%d+) (.*)$')
    idName = prefixOf(ofId) .. 'id:' .. text
  end
  if histories ~= '' and not string.find(histories, history, 1, true) then
    replies[#replies + 1] = '!'
  elseif mapVersion and redis.call('EXISTS', prefix .. 'q:' .. queue) == 0 then
    if id ~= '' and redis.call('EXISTS', idName) == 1 then
      replies[#replies + 1] = ''
    else
      local known = redis.call('HGET', prefix .. 'left', kind.tenant)
      if not known or tonumber(known) < tonumber(mapVersion) then
        redis.call('HSET', prefix .. 'left', kind.tenant, mapVersion)
      end
      replies[#replies + 1] = string.format('-%d', number)
    end
  elseif id ~= '' and not redis.call('SET', idName, '1', 'PX', ARGV[1], 'NX') then
    replies[#replies + 1] = ''
  else
    number = number + 1
    local sequence = string.format('%d', number)
    local reply = sequence
    if redis.call('RPUSH', prefix .. 'q:' .. queue, sequence .. kind.label, ARGV[last + content]) == 2 then
      if leaseMs ~= '' then
        number = number + 1
        local fence = string.format('%d', number)
        leases[#leases + 1] = string.format('%d', timeNow() + leaseMs)
        leases[#leases + 1] = fence .. ' ' .. kind.class .. ' 1 ' .. sequence .. ' ' .. kind.source .. '  0 0 ' .. queue
        reply = sequence .. ':' .. fence .. ':' .. string.format('%d', now)
      else
        makeReady(prefix, kind.lane, '0 0 ' .. queue, false)
      end
    end
    added[kind.depth] = (added[kind.depth] or 0) + 1
    if kind.source ~= '' then
      ofSources[kind.source] = (ofSources[kind.source] or 0) + 1
    end
    replies[#replies + 1] = reply
  end
end
endSlot()
tellReady()
return table.concat(replies, ' ')
