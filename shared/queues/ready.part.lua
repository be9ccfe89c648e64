-- Puts a queue into the list of its tenant's ready queues. Call tellReady at the end: dispatchers hear of lists that were empty.
-- prefix    of the slot's keys        class     of the lane         kind   'f' first attempt, 'r' retry
-- entry     attempts at the first item that failed, sequence of the item before it or 0, service:tenant:key
-- front     ahead of the others
local maxNews = 128
local news, topic = {}, nil
local function tellReady()
  if #news > 0 then
    redis.call('SPUBLISH', topic, table.concat(news, '\n'))
    news = {}
  end
end

local function makeReady(prefix, class, kind, entry, front)
  local service, tenant = string.match(entry, '^%d+ %d+ ([^:]*):([^:]*):')
  local lane = class .. ':' .. service .. ':' .. kind .. ':' .. tenant
  local count = redis.call(front and 'LPUSH' or 'RPUSH', prefix .. 'r:' .. lane, entry)
  if count == 1 and redis.call('SADD', prefix .. 'lanes', lane) == 1 then
    topic = topic or prefix .. 'ready'
    news[#news + 1] = string.match(prefix, '{(%d+)}:queues:$') .. ' ' .. lane
    if #news == maxNews then
      tellReady()
    end
  end
end
