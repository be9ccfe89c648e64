-- Takes the first items of a queue out of it.
-- Returns the items, and the class of the next one where there is one.
local function leave(prefix, queue, count)
  local tenant = string.match(queue, '^[^:]*:([^:]*):')
  local items = redis.call('LPOP', prefix .. 'q:' .. queue, count + 1) or {}
  local nextClass = nil
  if #items > count then
    local head = table.remove(items)
    redis.call('LPUSH', prefix .. 'q:' .. queue, head)
    nextClass = string.match(head, '^%d+ (%S+)')
  end
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
  return items, nextClass
end
