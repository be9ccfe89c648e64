-- Puts queues into the lists of their tenants' ready queues. Call pushReady once a slot is done, and tellReady at the end: it notifies
-- dispatchers of lists that were empty.
-- prefix    of the slot's keys   lane      class:service:kind:tenant; kind: 'f' first attempt, 'r' retry
-- entry     failed attempts at the first item, sequence of the item before it or 0, service:tenant:key
-- front     ahead of the others
local maxNews, maxPushed = 128, 1000
local news, topic = {}, nil
local function tellReady()
  if #news > 0 then
    redis.call('SPUBLISH', topic, table.concat(news, '\n'))
    news = {}
  end
end

-- Of one slot and direction: lane to entries.
local ready, inFront = {}, false
local function pushReady(prefix)
  for lane, entries in pairs(ready) do
    local list, isNew = prefix .. 'r:' .. lane, false
    for from = 1, #entries, maxPushed do
      local last = math.min(#entries, from + maxPushed - 1)
      isNew = redis.call(inFront and 'LPUSH' or 'RPUSH', list, unpack(entries, from, last)) == last or isNew
    end
    if isNew and redis.call('SADD', prefix .. 'lanes', lane) == 1 then
      topic = topic or prefix .. 'ready'
      news[#news + 1] = string.match(prefix, '{(%d+)}:queues2:$') .. ' ' .. lane
      if #news == maxNews then
        tellReady()
      end
    end
  end
  ready = {}
end

local function laneOf(class, service, kind, tenant)
  return class .. ':' .. service .. ':' .. kind .. ':' .. tenant
end

local function makeReady(prefix, lane, entry, front)
  if front ~= inFront then
    pushReady(prefix)
    inFront = front
  end
  local entries = ready[lane]
  if entries then
    entries[#entries + 1] = entry
  else
    ready[lane] = { entry }
  end
end
