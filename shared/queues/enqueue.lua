#!lua
-- Stores items, each at the tail of its queue; a queue that was empty becomes ready.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 deduplication ms   2 version of the caller's map of cells; 0: there is one cell   3 number of items and leases, then for each slot:
--       prefix of its keys, number of items, and for each item: its kind; the key of its queue; its content, which has a line break, or the
--       index in ARGV at which this call has it already.
--       A kind: class:service:tenant, or 'class:service:tenant source'. Where the item has any of them, four lines follow: its place,
--       the key that says that an item with its id was stored, the histories of which this Redis must have one, see histories.lua, and
--       the ms for which the item is leased to the caller where nothing else is in its queue.
--       A place: '' where the tenant has one slot for the queue; 'earlier VERSION' where the item is stored only if the queue is here,
--       because new queues are in another slot since that version of the map; 'newest NUMBER' where the earlier slots do not have the
--       queue, and have given numbers up to NUMBER
-- Returns a text with a word for each item, and spaces between them: its sequence, '' for a duplicate, '-NUMBER' where its queue is not
-- here: the last number given here, or '!' where this Redis has another history. Where the item was leased: its sequence, the fence, and
-- the time in ms, with colons between them; claim.lua says what the text of the lease is.
-- include numbers.part.lua
-- include ready.part.lua

-- By text: most items of a call have the same.
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

-- Returns the kind of an item, its place, its id, its histories, and the ms of its lease.
local function read(text)
  local kind = kinds[text]
  if kind then
    return kind, '', '', '', ''
  end
  local first, place, id, histories, leaseMs = string.match(text, '^([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
  return kindOf(first or text), place or '', id or '', histories or '', leaseMs or ''
end

local now
local function timeNow()
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return now
end

local number, counter = takeNumbers(ARGV[3])
if ARGV[2] ~= '0' then
  -- The hash 'left' of a slot has tenants whose new queues are in another slot, and the version of the map since when. A caller with an older
  -- map would begin a queue here that other callers have begun there. Everything is checked before anything is stored: the caller repeats a
  -- refused call as a whole.
  local past, at = number, 4
  while at < #ARGV do
    local prefix, last = ARGV[at], at + 1 + 3 * ARGV[at + 1]
    local left = redis.call('EXISTS', prefix .. 'left') == 1
    for item = at + 2, last, 3 do
      local kind, place = read(ARGV[item])
      local least = left and redis.call('HGET', prefix .. 'left', kind.tenant)
      if least and tonumber(ARGV[2]) < tonumber(least) then
        return redis.error_reply('OUTDATED ' .. least)
      end
      past = math.max(past, place ~= '' and tonumber(string.match(place, '^newest (%d+)$')) or 0)
    end
    at = last + 1
  end
  if past > number then
    number = past
    redis.call('SET', counter, string.format('%d', past + ARGV[3]))
  end
end

-- The history of this Redis, see histories.lua: the counter's name ends with it.
local history = string.sub(counter, #KEYS[1] + 2, #KEYS[1] + 9)
local replies = {}
local at = 4
while at < #ARGV do
  local prefix, count = ARGV[at], tonumber(ARGV[at + 1])
  local added, ofSources, leases = {}, {}, {}
  at = at + 2
  for _ = 1, count do
    local kind, place, id, histories, leaseMs = read(ARGV[at])
    local queue = kind.names .. ARGV[at + 1]
    local mapVersion = place ~= '' and string.match(place, '^earlier (%d+)$')
    if histories ~= '' and not string.find(histories, history, 1, true) then
      replies[#replies + 1] = '!'
    elseif mapVersion and redis.call('EXISTS', prefix .. 'q:' .. queue) == 0 then
      if id ~= '' and redis.call('EXISTS', id) == 1 then
        replies[#replies + 1] = ''
      else
        local known = redis.call('HGET', prefix .. 'left', kind.tenant)
        if not known or tonumber(known) < tonumber(mapVersion) then
          redis.call('HSET', prefix .. 'left', kind.tenant, mapVersion)
        end
        replies[#replies + 1] = string.format('-%d', number)
      end
    elseif id ~= '' and not redis.call('SET', id, '1', 'PX', ARGV[1], 'NX') then
      replies[#replies + 1] = ''
    else
      number = number + 1
      local sequence, content = string.format('%d', number), ARGV[at + 2]
      if not string.find(content, '\n', 1, true) then
        content = ARGV[tonumber(content)]
      end
      local reply = sequence
      if redis.call('RPUSH', prefix .. 'q:' .. queue, sequence .. kind.label, content) == 2 then
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
    at = at + 3
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
end
tellReady()
return table.concat(replies, ' ')
