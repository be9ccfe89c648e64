-- Takes the first items of a queue out of it, and makes it ready where it holds more. Needs makeReady.
-- Returns the items.
local function leave(prefix, queue, count)
  local tenant = string.match(queue, '^[^:]*:([^:]*):')
  local items = redis.call('LPOP', prefix .. 'q:' .. queue, count) or {}
  local left, ofSources = {}, {}
  for _, item in ipairs(items) do
    local class, source = string.match(item, '^%d+ (%S+) ?(%S*)')
    local depth = class .. ':' .. tenant
    left[depth] = (left[depth] or 0) + 1
    if source ~= '' then
      ofSources[source] = (ofSources[source] or 0) + 1
    end
  end
  for name, counts in pairs({ depths = left, sources = ofSources }) do
    for field, number in pairs(counts) do
      if redis.call('HINCRBY', prefix .. name, field, -number) <= 0 then
        redis.call('HDEL', prefix .. name, field)
      end
    end
  end
  return items
end

-- Makes the queue ready for a first attempt at its next item; an empty queue leaves nothing behind.
local function advance(prefix, queue, previous)
  local head = redis.call('LINDEX', prefix .. 'q:' .. queue, 0)
  if head then
    redis.call('HSET', prefix .. 'k:' .. queue, 'previous', previous, 'attempts', '0')
    makeReady(prefix, string.match(head, '^%d+ (%S+)'), 'f', queue, false)
  else
    redis.call('DEL', prefix .. 'k:' .. queue)
  end
end
